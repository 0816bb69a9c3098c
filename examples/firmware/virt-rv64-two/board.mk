CROSS = riscv64-unknown-elf-
PACKAGE = gcc-riscv64-unknown-elf
QEMU = qemu-system-riscv64 -M virt -smp 2 -bios none
FLAGS = -misa-spec=2.2 -march=rv64gc -mabi=lp64d -mcmodel=medany -DHARTS=2
SOURCES = riscv_start.S riscv.c second_core.c
EMULATOR = qemu-system-misc

CROSS = riscv64-unknown-elf-
PACKAGE = gcc-riscv64-unknown-elf
QEMU = qemu-system-riscv64 -M virt -bios none
FLAGS = -misa-spec=2.2 -march=rv64gc -mabi=lp64d -mcmodel=medany
SOURCES = riscv_start.S riscv.c
EMULATOR = qemu-system-misc

CROSS = riscv64-unknown-elf-
PACKAGE = gcc-riscv64-unknown-elf
QEMU = qemu-system-riscv32 -M virt -bios none
FLAGS = -misa-spec=2.2 -march=rv32imac -mabi=ilp32
SOURCES = riscv_start.S riscv.c
EMULATOR = qemu-system-misc

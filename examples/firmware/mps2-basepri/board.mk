CROSS = arm-none-eabi-
PACKAGE = gcc-arm-none-eabi
QEMU = qemu-system-arm -M mps2-an386
FLAGS = -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard
SOURCES = cortex_m.c clock32.c mps2.c
EMULATOR = qemu-system-arm
EXTRA = above_mask.c

CROSS = arm-none-eabi-
PACKAGE = gcc-arm-none-eabi
QEMU = qemu-system-arm -M mps2-an500
FLAGS = -mcpu=cortex-m7 -mthumb -mfpu=fpv5-d16 -mfloat-abi=hard
SOURCES = cortex_m.c clock32.c mps2.c
EMULATOR = qemu-system-arm

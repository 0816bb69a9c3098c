CROSS = arm-none-eabi-
PACKAGE = gcc-arm-none-eabi
QEMU = qemu-system-arm -M mps2-an385
FLAGS = -mcpu=cortex-m3 -mthumb
SOURCES = cortex_m.c clock32.c mps2.c
EMULATOR = qemu-system-arm

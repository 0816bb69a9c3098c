CROSS = arm-none-eabi-
PACKAGE = gcc-arm-none-eabi
QEMU = qemu-system-arm -M microbit
FLAGS = -mcpu=cortex-m0 -mthumb
SOURCES = cortex_m.c clock32.c microbit/microbit.c
EMULATOR = qemu-system-arm

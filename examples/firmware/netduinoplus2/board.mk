CROSS = arm-none-eabi-
PACKAGE = gcc-arm-none-eabi
QEMU = qemu-system-arm -M netduinoplus2
FLAGS = -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard
SOURCES = netduinoplus2/startup.S cortex_m.c clock32.c netduinoplus2/netduinoplus2.c
EMULATOR = qemu-system-arm
EXTRA = netduinoplus2/uart.c

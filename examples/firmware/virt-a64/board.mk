CROSS = aarch64-linux-gnu-
PACKAGE = gcc-aarch64-linux-gnu
QEMU = qemu-system-aarch64 -M virt -cpu cortex-a53 -nic none
FLAGS = -fno-pic -mno-outline-atomics -mstrict-align
LINK = -static -no-pie -Wl,--build-id=none
SOURCES = virt-a64/start.S virt-a64/virt_a64.c
EMULATOR = qemu-system-arm

/* config.h - Netduino Plus 2: STM32F405, Cortex-M4F at 168 MHz, 128 KiB of RAM (and 64 KiB more
 * that only the core reaches, which is left alone). */
#define NS_PER_COUNT 1000u
#define CORE_HZ 168000000u
#define TIMER_HZ 1000000000u // of QEMU's timers; 84 MHz on the chip
#define VENDOR_STARTUP       // startup.S has the vectors, and main stays on MSP
#define MIDDLE_IRQ 29        // of TIM3 and TIM4, which this board does not use
#define LOW_IRQ 30

/* startup.S - from reset to main, in the manner of the vendor's startup files: Reset_Handler copies
 * .data, clears .bss, calls SystemInit, the constructors and main; each handler is a weak name, and
 * a function of that name takes its place. main stays on MSP, as it does there: csp moves the
 * goroutines to PSP by itself. */
    .syntax unified
    .cpu cortex-m4
    .thumb

    .section .text.Reset_Handler
    .weak Reset_Handler
    .type Reset_Handler, %function
Reset_Handler:
    ldr r0, =_estack
    mov sp, r0
    ldr r0, =_sdata
    ldr r1, =_edata
    ldr r2, =_sidata
    b 2f
1:  ldr r3, [r2], #4
    str r3, [r0], #4
2:  cmp r0, r1
    bcc 1b
    ldr r0, =_sbss
    ldr r1, =_ebss
    movs r3, #0
    b 4f
3:  str r3, [r0], #4
4:  cmp r0, r1
    bcc 3b
    bl SystemInit
    bl __libc_init_array
    bl main
    bl exit
    .size Reset_Handler, . - Reset_Handler

    .section .text.Default_Handler, "ax", %progbits
Default_Handler:
    b Default_Handler
    .size Default_Handler, . - Default_Handler

    .macro handler name
    .word \name
    .weak \name
    .thumb_set \name, Default_Handler
    .endm

    .section .isr_vector, "a", %progbits
    .type g_pfnVectors, %object
g_pfnVectors:
    .word _estack
    .word Reset_Handler
    handler NMI_Handler
    handler HardFault_Handler
    handler MemManage_Handler
    handler BusFault_Handler
    handler UsageFault_Handler
    .word 0, 0, 0, 0
    handler SVC_Handler
    handler DebugMon_Handler
    .word 0
    handler PendSV_Handler
    handler SysTick_Handler
    handler WWDG_IRQHandler // 0
    handler PVD_IRQHandler
    handler TAMP_STAMP_IRQHandler
    handler RTC_WKUP_IRQHandler
    handler FLASH_IRQHandler
    handler RCC_IRQHandler
    handler EXTI0_IRQHandler
    handler EXTI1_IRQHandler
    handler EXTI2_IRQHandler
    handler EXTI3_IRQHandler
    handler EXTI4_IRQHandler // 10
    handler DMA1_Stream0_IRQHandler
    handler DMA1_Stream1_IRQHandler
    handler DMA1_Stream2_IRQHandler
    handler DMA1_Stream3_IRQHandler
    handler DMA1_Stream4_IRQHandler
    handler DMA1_Stream5_IRQHandler
    handler DMA1_Stream6_IRQHandler
    handler ADC_IRQHandler
    handler CAN1_TX_IRQHandler
    handler CAN1_RX0_IRQHandler // 20
    handler CAN1_RX1_IRQHandler
    handler CAN1_SCE_IRQHandler
    handler EXTI9_5_IRQHandler
    handler TIM1_BRK_TIM9_IRQHandler
    handler TIM1_UP_TIM10_IRQHandler
    handler TIM1_TRG_COM_TIM11_IRQHandler
    handler TIM1_CC_IRQHandler
    handler TIM2_IRQHandler
    handler TIM3_IRQHandler
    handler TIM4_IRQHandler // 30
    handler I2C1_EV_IRQHandler
    handler I2C1_ER_IRQHandler
    handler I2C2_EV_IRQHandler
    handler I2C2_ER_IRQHandler
    handler SPI1_IRQHandler
    handler SPI2_IRQHandler
    handler USART1_IRQHandler
    handler USART2_IRQHandler
    handler USART3_IRQHandler
    handler EXTI15_10_IRQHandler // 40
    handler RTC_Alarm_IRQHandler
    handler OTG_FS_WKUP_IRQHandler
    handler TIM8_BRK_TIM12_IRQHandler
    handler TIM8_UP_TIM13_IRQHandler
    handler TIM8_TRG_COM_TIM14_IRQHandler
    handler TIM8_CC_IRQHandler
    handler DMA1_Stream7_IRQHandler
    handler FSMC_IRQHandler
    handler SDIO_IRQHandler
    handler TIM5_IRQHandler // 50
    .size g_pfnVectors, . - g_pfnVectors

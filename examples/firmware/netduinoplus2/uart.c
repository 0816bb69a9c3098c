/* uart.c - a serial line: its interrupts receive, a goroutine makes lines, another one answers.
 * Says that it is ready, then reads uart.input, and prints uart.expected.
 *
 * What to notice: the handler has the vendor's name and takes its place in the vectors. When the
 * channel is full, it leaves the byte where it is and turns its interrupt off; the goroutine that
 * makes room turns it on again. So nothing is lost, however slow the answers are.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "board.h"

#define CHECK(x) ((x) ? (void)0 : csp_port_fatal("uart: " #x))
#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define USART1_SR REGISTER(0x40011000)
#define USART1_DR REGISTER(0x40011004)
#define USART1_CR1 REGISTER(0x4001100c)
#define RXNE (1u << 5) // of SR: a byte is there; of CR1: and interrupts
#define NVIC_ISER1 REGISTER(0xe000e104)
#define NVIC_ICER1 REGISTER(0xe000e184)
#define USART1_BIT (1u << 37 % 32)

typedef struct {
    char text[48];
} line; // too large for handlers, as it may be: only goroutines use the channel

static uint64_t memory[1024];
static volatile uint32_t received, full;
CSP_CHAN_STATIC(char, bytes, 8);

void USART1_IRQHandler(void);
void USART1_IRQHandler(void)
{
    while (USART1_SR & RXNE) {
        if (csp_len(bytes) == csp_cap(bytes)) {
            full++;
            NVIC_ICER1 = USART1_BIT;
            return;
        }
        CHECK(csp_isr_send(bytes, (char)USART1_DR) == CSP_OK);
        received++;
    }
}

csp_task(lines, csp_sender(line), out)
{
    line l;
    size_t n = 0;
    csp_range(c, bytes) {
        NVIC_ISER1 = USART1_BIT; // there is room again
        if (c != '\n') {
            if (n < sizeof l.text - 1) l.text[n++] = c;
            continue;
        }
        l.text[n] = 0;
        n = 0;
        csp_send(out, l);
        if (l.text[0] == '.') break;
    }
    csp_close(out);
}

csp_task(answers, csp_receiver(line), in, csp_sender(int), done)
{
    int count = 0;
    csp_range(l, in) {
        char turned[sizeof l.text] = "";
        size_t n = 0;
        while (l.text[n] != 0) n++;
        for (size_t i = 0; i < n; i++) turned[i] = l.text[n - 1 - i];
        csp_sleep(CSP_MILLISECOND); // the line is faster than this
        board_print(turned);
        board_print("\n");
        count++;
    }
    csp_send(done, count);
}

static void firmware(void *arg)
{
    csp_chan(line) ls = csp_make(line, 0);
    csp_chan(int) done = csp_make(int, 0);
    csp_opts opts = {.stack_size = 1536};
    int count;
    (void)arg;
    USART1_CR1 |= RXNE;
    NVIC_ISER1 = USART1_BIT;
    board_print("uart: ready\n");                 // a byte that came before this would be lost
    while (full == 0) csp_sleep(CSP_MILLISECOND); // nothing receives yet
    CHECK(csp_len(bytes) == 8 && received == 8);
    csp_go_with(&opts, lines, csp_send_end(ls));
    csp_go_with(&opts, answers, csp_recv_end(ls), csp_send_end(done));
    CHECK(csp_recv(done, &count));
    CHECK(count == 5 && received == 123);
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    CHECK(csp_init(&config) == CSP_OK);
    csp_run(firmware, NULL);
    board_print("uart: ok\n");
    board_exit(0);
}

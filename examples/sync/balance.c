/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * balance.c - one account, three ways to guard it, and a mutex that is locked twice.
 *
 * What to notice: in the first the balance is a local variable of a goroutine, and others ask it.
 * In the second it is a variable and a mutex. The third goes wrong as programs do when code is put
 * together: withdraw locks and calls deposit, which locks. A mutex does not know that both callers
 * are the same. The simulator reports the deadlock, and so would the program. The cure is an inner
 * function for callers that hold the lock, and public ones that take it.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

/* ---- a monitor goroutine ---- */

typedef struct withdrawal {
    int amount;
    csp_sender(bool) granted;
} withdrawal;

typedef struct teller {
    csp_chan(int) deposits, balances; // NULL when the bank has closed
    csp_chan(withdrawal) withdrawals;
    csp_chan(bool) closing;
} teller;

csp_task(serve, teller, t)
{
    withdrawal w;
    for (int balance = 0, amount, open = true; open;) {
        switch (csp_select(CSP_RECV(t.deposits, &amount), CSP_SEND(t.balances, balance),
                           CSP_RECV(t.withdrawals, &w), CSP_RECV(t.closing, NULL))) {
        case 0: balance += amount; break;
        case 1: break;
        case 2:
            csp_send(w.granted, balance >= w.amount);
            if (balance >= w.amount) balance -= w.amount;
            break;
        case 3: open = false; break;
        }
    }
    csp_close(t.balances);
}

csp_task(ask_teller, teller, t, csp_waitgroup *, all)
{
    csp_chan(bool) granted = csp_make(bool, 0);
    csp_send(t.deposits, 300);
    csp_send(t.withdrawals, (withdrawal){100, csp_send_end(granted)});
    csp_recv(granted, NULL);
    csp_unref(granted);
    csp_waitgroup_done(all);
}

static void monitor(void)
{
    teller t = {csp_make(int, 0), csp_make(int, 0), csp_make(withdrawal, 0), csp_make(bool, 0)};
    csp_waitgroup all = {0};
    int balance;
    csp_go(serve, t);
    csp_waitgroup_add(&all, 10);
    for (int i = 0; i < 10; i++) csp_go(ask_teller, t, &all);
    csp_waitgroup_wait(&all);
    csp_recv(t.balances, &balance);
    printf("teller: %d\n", balance);
    csp_close(t.closing);
    csp_range(b, t.balances) (void)b;
    csp_unref(t.deposits);
    csp_unref(t.balances);
    csp_unref(t.withdrawals);
    csp_unref(t.closing);
}

/* ---- a mutex ---- */

typedef struct account {
    csp_mutex mu;
    int balance; // guarded by mu
} account;

static void deposit(account *a, int amount)
{
    csp_mutex_lock(&a->mu);
    a->balance += amount;
    csp_mutex_unlock(&a->mu);
}

/* Wrong: locks what deposit locks. */
static bool withdraw_wrong(account *a, int amount)
{
    csp_mutex_lock(&a->mu);
    deposit(a, -amount);
    bool enough = a->balance >= 0;
    if (!enough) deposit(a, amount);
    csp_mutex_unlock(&a->mu);
    return enough;
}

static void deposit_locked(account *a, int amount) // a->mu is held
{
    a->balance += amount;
}

static bool withdraw(account *a, int amount)
{
    csp_mutex_lock(&a->mu);
    bool enough = a->balance >= amount;
    if (enough) deposit_locked(a, -amount);
    csp_mutex_unlock(&a->mu);
    return enough;
}

csp_task(use_account, account *, a, csp_waitgroup *, all)
{
    deposit(a, 300);
    withdraw(a, 100);
    csp_waitgroup_done(all);
}

static void mutex(void)
{
    account a = {.balance = 0};
    csp_waitgroup all = {0};
    csp_waitgroup_add(&all, 10);
    for (int i = 0; i < 10; i++) csp_go(use_account, &a, &all);
    csp_waitgroup_wait(&all);
    printf("mutex: %d, more than there is: %s\n", a.balance, withdraw(&a, 5000) ? "paid" : "no");
}

static void locked_twice(void *unused)
{
    account a = {.balance = 500};
    (void)unused;
    withdraw_wrong(&a, 100);
}

static void run(void *unused)
{
    (void)unused;
    monitor();
    mutex();
}

int main(void)
{
    csp_run(run, NULL);
    csp_sim_report r = csp_simulate(NULL, locked_twice, NULL);
    printf("locked twice: %s\n", csp_sim_outcome_name(r.outcome));
    return 0;
}

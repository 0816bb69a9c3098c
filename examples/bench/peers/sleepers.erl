%% SPDX-License-Identifier: MIT OR Unlicense
%%
%% sleepers.erl - Erlang's side of the row sleepers: N processes that sleep ten times for 1..100 ms. Prints the
%% CPU time and the wall-clock time in seconds, as bench.c does.
-module(sleepers).
-export([main/1]).

main([_Row, N | _]) ->
    Count = list_to_integer(N),
    Main = self(),
    {_, _} = statistics(runtime),
    Start = erlang:monotonic_time(microsecond),
    [spawn(fun() -> sleeps(Main, (I * 2654435761 + 1) band 16#FFFFFFFF, 10) end) || I <- lists:seq(0, Count - 1)],
    collect(Count),
    {_, Cpu} = statistics(runtime),
    io:format("sleepers_cpu ~.3f s~n", [Cpu / 1000]),
    io:format("sleepers_wall ~.3f s~n", [(erlang:monotonic_time(microsecond) - Start) / 1.0e6]),
    halt(0).

collect(0) -> ok;
collect(N) -> receive done -> collect(N - 1) end.

sleeps(Main, _, 0) -> Main ! done;
sleeps(Main, X0, N) ->
    X1 = (X0 bxor (X0 bsl 13)) band 16#FFFFFFFF,
    X2 = X1 bxor (X1 bsr 17),
    X = (X2 bxor (X2 bsl 5)) band 16#FFFFFFFF,
    receive after X rem 100 + 1 -> ok end,
    sleeps(Main, X, N - 1).

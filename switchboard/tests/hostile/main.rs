//! Programs that mean harm, beside honest clients of the same service.
//!
//! Each attack runs in a process of its own and speaks the real protocol first, with the product's own client or with
//! words overheard from it. The service must not crash, hang or grow, and every honest call must be answered right.
//! [`siege`] says how that is measured; the attacks are in [`door`] (what can be done at the socket and by calling) and
//! [`spoil`] (what can be done to shared memory).
//!
//! With `SWITCHBOARD_HOSTILE_MINUTES` each attack lasts that long; without, about a second.
#![forbid(unsafe_code)]

mod door;
mod overheard;
#[path = "../processes/random.rs"]
mod random;
mod siege;
mod spoil;
#[path = "../support/mod.rs"]
mod support;

use test_support::child;

/// What a process of this program can be, besides the one that runs the tests.
const ROLES: &[child::Role] =
    &[("service", siege::serve), ("honest", siege::be_honest), ("attacker", siege::be_an_attacker)];

#[test]
#[ignore = "run by the child processes of the other tests"]
fn role_of_a_child_process() {
    child::play(ROLES);
}

/// One test per attack, of the attack's name.
macro_rules! sieges {
    ($($name:ident => $attack:path,)*) => {
        const ATTACKS: &[(&str, siege::Attack)] = &[$((stringify!($name), $attack)),*];

        $(
            #[test]
            fn $name() {
                siege::withstand(stringify!($name));
            }
        )*
    };
}

sieges! {
    garbage_and_half_handshakes => door::garbage,
    extra_wrong_and_253_descriptors => door::descriptors,
    silent_connections => door::crowd,
    connects_in_a_loop => door::connects,
    growth_asked_for_and_never_read => door::growth,
    replies_never_awaited => door::abandoned,
    request_flood => door::flood,
    random_words_everywhere => spoil::random_words,
    headers_states_and_references => spoil::aimed_words,
    old_memory_written_again => spoil::replayed,
    blocks_never_given_back => spoil::kept_blocks,
    holes_and_truncation => spoil::holes,
    event_descriptors_flooded => spoil::events,
    clear_all_ready_bits_loop => spoil::ready_bits,
    bell_rung_in_a_loop => spoil::bell,
}

//! Programs that mean harm, beside honest clients of the same service.
//!
//! Each attack runs in a process of its own and speaks the real protocol first, with the product's own client or with
//! words overheard from it. The service must not crash, hang or grow, and every honest call must be answered right, whether
//! it trusts its clients as far as `Checked` or not at all (`Isolated`).
//! A service can mean harm as well: [`rogue`].
//!
//! [`siege`] says how that is measured; the attacks are in [`door`] (what can be done at the socket and by calling) and
//! [`spoil`] (what can be done to shared memory).
//!
//! With `SWITCHBOARD_HOSTILE_MINUTES` each attack lasts that long; without, about a second.
#![forbid(unsafe_code)]

mod door;
mod overheard;
mod rogue;
mod sealed;
mod siege;
mod spoil;
#[path = "../support/mod.rs"]
mod support;

use test_support::child;

/// What a process of this program can be, besides the one that runs the tests.
const ROLES: &[child::Role] = &[
    ("service", siege::serve),
    ("honest", siege::be_honest),
    ("attacker", siege::be_an_attacker),
    ("rogue service", rogue::serve),
    ("service that accepts sealed memory", sealed::serve),
];

#[test]
#[ignore = "run by the child processes of the other tests"]
fn role_of_a_child_process() {
    child::play(ROLES);
}

/// One test per attack, of the attack's name, in one mode of trust; see [`siege::withstand`].
macro_rules! sieges {
    ($mode:ident: $($name:ident => $attack:path,)*) => {
        mod $mode {
            use super::*;

            pub const ATTACKS: &[(&str, siege::Attack)] = &[$((stringify!($name), $attack)),*];

            $(
                #[test]
                fn $name() {
                    siege::withstand(stringify!($mode), stringify!($name));
                }
            )*
        }
    };
}

sieges! { checked:
    garbage_and_half_handshakes => door::garbage,
    extra_wrong_and_253_descriptors => door::descriptors,
    descriptors_that_take_long_to_close => door::lingering,
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
    sleepers_moved_and_woken => spoil::sleepers,
    descriptors_flooded => spoil::descriptors,
    bell_rung_in_a_loop => spoil::bell,
    clear_all_ready_bits_loop => spoil::ready_bits,
}

sieges! { isolated:
    garbage_and_half_handshakes => door::garbage,
    extra_wrong_and_253_descriptors => door::descriptors,
    descriptors_that_take_long_to_close => door::lingering,
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
    sleepers_moved_and_woken => spoil::sleepers,
    descriptors_flooded => spoil::descriptors,
    memory_of_the_service => spoil::what_is_not_ours,
}

/// An attack by its name.
fn attack(name: &str) -> siege::Attack {
    let all = checked::ATTACKS.iter().chain(isolated::ATTACKS);
    let found = all.copied().find(|(known, _)| *known == name);
    found.expect("the attack is known").1
}

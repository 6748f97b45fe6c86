//! What every transport must do alike: one list of behaviours, run over each of them.
//!
//! A transport is a [`Fixture`]; a line of `conformance!` at the end runs the whole list over it.

mod calls;
mod dynamic;
mod failures;
mod lives;
mod services;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use switchboard::Switchboard;

/// Where services are served and called by one transport.
#[derive(Debug)]
pub(crate) struct Fixture {
    dir: PathBuf,
    in_process: bool,
}

impl Fixture {
    fn new(in_process: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("switchboard-conformance-{}-{count}", std::process::id()));
        std::fs::create_dir(&dir).expect("the name is unique");
        Self { dir, in_process }
    }

    /// To a service of this process, without a socket.
    pub(crate) fn in_process() -> Self {
        Self::new(true)
    }

    /// Through socket and shared memory, as to another process.
    pub(crate) fn local() -> Self {
        Self::new(false)
    }

    pub(crate) fn board(&self) -> Switchboard {
        Switchboard::builder().runtime_dir(&self.dir).in_process(self.in_process).open().expect("the directory is ours")
    }

    /// Says whether a call is carried by this transport and no other, given how many connections its service has.
    pub(crate) fn carries(&self, connections: usize) -> bool {
        (connections == 0) == self.in_process
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // A test that failed may have left something; the next one has a directory of its own.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The list, for one transport.
macro_rules! conformance {
    ($transport:ident: $($module:ident { $($behaviour:ident),* $(,)? })*) => {
        mod $transport {
            $($(
                #[test]
                fn $behaviour() {
                    crate::$module::$behaviour(&crate::Fixture::$transport());
                }
            )*)*
        }
    };
}

macro_rules! over_each_transport {
    ($($transport:ident)*; $list:tt) => {
        $(over_each_transport!(@one $transport $list);)*
    };
    (@one $transport:ident { $($list:tt)* }) => {
        conformance!($transport: $($list)*);
    };
}

over_each_transport! { in_process local; {
    calls {
        a_call_goes_over_the_transport_that_is_tested,
        messages_of_every_length_arrive_as_they_were_sent,
        replies_reach_the_caller_that_asked,
        a_reply_is_read_in_place,
        the_handler_knows_its_caller,
        calls_are_counted_on_both_sides,
    }
    dynamic {
        a_caller_that_knows_the_name_only_calls_by_values,
        large_values_arrive_as_they_were_sent,
        values_that_do_not_fit_are_refused_and_nothing_ran,
        a_service_describes_itself,
    }
    failures {
        a_status_of_each_code_arrives_with_its_text,
        details_a_hint_and_the_kind_of_an_error_arrive,
        a_panic_is_internal_and_the_service_goes_on,
        an_unknown_name_is_not_found_and_nothing_ran,
        an_unknown_method_is_unimplemented_and_nothing_ran,
        other_types_are_refused_with_both_named,
        a_deadline_that_passes_ends_the_call,
        the_handler_knows_the_deadline,
    }
    lives {
        a_client_survives_the_restart_of_its_service,
        a_stopped_service_is_unavailable_and_nothing_ran,
        a_stop_waits_for_the_handlers_that_run,
        a_handler_may_stop_its_own_service,
        a_handler_calls_another_service,
    }
}}

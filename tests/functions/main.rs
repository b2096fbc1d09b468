//! Rust functions as workers. This is one program with two lives: with the command line of `mpflow` it runs pipelines
//! whose stages call the functions that it registers; else it runs the tests, which start it so.
//!
//! ```text
//! cargo test --test functions                 all tests
//! cargo test --test functions -- panic kill   those whose names hold one of these words
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(unused_imports, dead_code, reason = "its own tests are those of the binary")]
#[path = "../../src/cli/mod.rs"]
mod cli;
mod pools;
mod primitives;
mod registered;
mod stages;
#[path = "../support/mod.rs"]
mod support;

use std::panic::catch_unwind;
use std::process::ExitCode;

/// A test and its name.
type Test = (&'static str, fn());

/// The tests of a module, by their names.
macro_rules! tests {
    ($($module:ident::$name:ident,)*) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), $module::$name)),*]
    };
}

const TESTS: &[Test] = tests![
    stages::a_function_is_called_for_each_record,
    stages::every_format_carries_records,
    stages::all_start_methods_are_alike,
    stages::a_forked_worker_has_what_the_program_had_before_init,
    stages::a_worker_has_its_own_descriptors_and_no_others,
    stages::signals_are_as_a_new_program_has_them,
    stages::exit_codes_are_those_of_the_function,
    stages::a_worker_that_ends_well_with_its_last_record_in_hand_is_missed,
    stages::streams_and_sources_are_called_once,
    stages::an_error_fails_its_record_with_its_causes,
    stages::a_panic_fails_its_record_and_replaces_the_worker,
    stages::a_panic_charges_no_other_record,
    stages::a_panic_in_a_stream_fails_the_stage,
    stages::a_worker_that_is_killed_loses_and_doubles_nothing,
    stages::state_is_made_once_in_each_worker,
    stages::state_that_cannot_be_made_fails_the_stage,
    stages::a_function_asks_its_worker_for_the_arguments_of_its_stage,
    stages::a_batch_is_one_call,
    stages::functions_emit_on_further_ports,
    stages::results_of_a_slow_function_leave_at_once,
    stages::a_record_of_many_results_is_not_held_in_memory,
    stages::python_and_rust_understand_each_other,
    stages::large_values_pass_from_python_through_rust_and_back,
    stages::a_record_that_is_something_else_fails,
    stages::a_function_that_is_not_there_is_shown_with_its_place,
    stages::the_plain_program_says_who_must_run_the_file,
    stages::a_worker_keeps_to_the_protocol,
    stages::a_worker_may_be_limited_and_ranked,
    pools::a_pool_does_tasks_by_every_start_method,
    pools::results_come_in_order_or_as_they_come,
    pools::a_callback_is_told_and_may_give_another_task,
    pools::a_task_that_fails_says_why_and_harms_no_other,
    pools::a_task_that_kills_its_workers_fails_alone,
    pools::killing_workers_at_random_loses_and_doubles_no_task,
    pools::a_worker_of_a_pool_is_replaced_after_so_many_tasks,
    pools::a_long_task_holds_up_no_other_where_tasks_are_given_one_by_one,
    pools::a_pool_that_is_terminated_fails_what_is_not_done,
    pools::a_pool_whose_workers_never_live_to_do_a_task_ends,
    pools::a_pool_that_cannot_be_says_why,
    primitives::a_process_calls_its_function_by_every_start_method,
    primitives::an_exit_code_is_written_as_python_writes_it,
    primitives::a_process_that_cannot_be_says_why,
    primitives::a_queue_has_many_writers_and_many_readers,
    primitives::a_queue_holds_as_many_values_as_its_capacity,
    primitives::a_queue_carries_values_of_any_size,
    primitives::a_queue_is_joined_when_each_value_is_done,
    primitives::a_queue_goes_on_when_its_readers_are_killed,
    primitives::the_lock_of_a_dead_holder_is_free,
    primitives::the_permits_of_dead_holders_are_free,
    primitives::values_and_arrays_are_changed_in_one_step,
    primitives::a_barrier_lets_all_parties_go_together,
    primitives::an_event_wakes_all_who_wait,
    primitives::a_pipe_connects_two_ends,
    primitives::nothing_outlives_the_program,
];

fn main() -> ExitCode {
    mpflow::init(&registered::functions());
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| ["run", "check", "explain"].iter().any(|verb| first == verb)) {
        return cli::run(arguments);
    }
    if let [_, first, how] = &arguments[..]
        && first == "leave-behind"
    {
        primitives::leave_behind(&how.to_string_lossy());
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    let mut failed = Vec::new();
    for (name, test) in TESTS.iter().filter(|(name, _)| is_wanted(name)) {
        let result = catch_unwind(*test);
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        if result.is_err() {
            failed.push(*name);
        }
    }
    println!("\ntest result: {}. {} failed", if failed.is_empty() { "ok" } else { "FAILED" }, failed.len());
    failed.iter().for_each(|name| println!("    {name}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

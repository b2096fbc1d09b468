use std::path::{Path, PathBuf};

use super::{codes, mistakes, options, pipeline, stage_codes};
use crate::language::{Document, ParseOptions};
use crate::model::{Body, Command, PerWorker, Pool, Redirect};

fn with_set(text: &str, set: &[(&str, &str)]) -> Result<Document, crate::language::Diagnostics> {
    let set = set.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    Document::parse(text, Path::new("/d/x.yaml"), &ParseOptions { set, ..options() })
}

#[test]
fn a_scalar_that_is_one_expression_keeps_its_type() {
    let pipeline = pipeline(
        "vars: {width: 2, words: [seq, '3'], double: '${{ vars.width * 2 }}', home: '${{ env.HOME }}/x'}\n\
         name: n${{ vars.width }}\n\
         stages:\n  \
           a: {pool: '${{ vars.double }}', command: '${{ vars.words }}', cwd: '${{ vars.home }}'}\n  \
           b: {command: 'echo ${{ stage.name }} ${{ pool.width }} $X ${X} ${{ pipeline.name }} ${{ pipeline.dir }}'}\n",
    );
    assert_eq!(pipeline.name, "n2");
    assert_eq!(pipeline.stages[0].pool, Pool { min: 4, max: 4 });
    let argv = Command::Argv(vec!["seq".to_owned(), "3".to_owned()]);
    assert_eq!(pipeline.stages[0].body, Body::Command(PerWorker::Same(argv)));
    assert_eq!(pipeline.stages[0].cwd, PerWorker::Same(PathBuf::from("/home/me/x")));
    let script = Command::Shell("echo b 1 $X ${X} n2 /work/dir".to_owned());
    assert_eq!(pipeline.stages[1].body, Body::Command(PerWorker::Same(script)));
}

#[test]
fn what_names_the_worker_is_evaluated_for_every_rank() {
    let pipeline = pipeline(
        "stages:\n  a:\n    command: [w, '${{ worker.rank }}', '${{ worker.name }}']\n    pool: {min: 1, max: 3}\n    \
         env: {PORT: '${{ 8000 + worker.rank }}', SAME: x}\n    stdout: out-${{ worker.rank }}.txt\n",
    );
    let stage = &pipeline.stages[0];
    let Body::Command(commands) = &stage.body else { panic!() };
    let command = |rank: usize| Command::Argv(vec!["w".into(), rank.to_string(), format!("a/{rank}")]);
    assert_eq!(commands, &PerWorker::ByRank(vec![command(0), command(1), command(2)]));
    assert_eq!(stage.env[0].1, PerWorker::ByRank(vec!["8000".into(), "8001".into(), "8002".into()]));
    assert_eq!(stage.env[1].1, PerWorker::Same("x".into()));
    assert_eq!(stage.stdout.as_ref().unwrap().get(2), &Redirect::File("/work/dir/out-2.txt".into()));
}

#[test]
fn the_command_line_replaces_variables_by_yaml_scalars() {
    let text = "vars: {n: 1, s: x}\nstages: {a: {command: 'echo ${{ vars.s }}', pool: '${{ vars.n }}'}}";
    let pipeline = with_set(text, &[("n", "3"), ("s", "*.txt # [x]")]).unwrap().into_pipeline();
    assert_eq!(pipeline.stages[0].pool.max, 3);
    let script = Command::Shell("echo *.txt # [x]".to_owned());
    assert_eq!(pipeline.stages[0].body, Body::Command(PerWorker::Same(script)));

    let quoted = with_set(text, &[("n", "'3'")]).unwrap_err();
    assert_eq!(codes(&quoted), ["wrong_type"]);
    let injected = with_set(text, &[("s", "${{ env.HOME }}")]).unwrap().into_pipeline();
    let script = Command::Shell("echo ${{ env.HOME }}".to_owned());
    assert_eq!(injected.stages[0].body, Body::Command(PerWorker::Same(script)));
}

#[test]
fn a_variable_on_the_command_line_must_be_declared_or_used() {
    let text =
        "vars: {width: 1}\nstages: {a: {command: 'echo ${{ vars.other | default(1) }} ${{ vars.width }}'}}";
    assert!(with_set(text, &[("other", "2")]).is_ok());
    let found = with_set(text, &[("widht", "2")]).unwrap_err();
    assert_eq!(codes(&found), ["unknown_variable"]);
    assert!(found.plain().to_string().contains("did you mean `--set width=…`?"));
}

#[test]
fn names_that_are_not_known_are_mistakes() {
    for (value, code) in [
        ("vars.x", "unknown_name"),
        ("env.NOPE", "unknown_name"),
        ("nope", "unknown_name"),
        ("nope | default(1)", "unknown_name"),
        ("stage.nam", "unknown_name"),
        ("pipeline.path", "unknown_name"),
        ("1 +", "expression_syntax"),
        ("env.HOME | nofilter", "expression_failed"),
        ("env.HOME + 1", "expression_failed"),
    ] {
        let found = stage_codes(&format!("command: 'echo ${{{{ {value} }}}}'"));
        assert_eq!(found, [code], "{value}");
    }
    assert_eq!(stage_codes("command: 'echo ${{ x'"), ["expression_syntax"]);
    assert_eq!(stage_codes("command: 'echo ${{ [1] }}'"), ["wrong_type"]);
    assert_eq!(stage_codes("command: c, pool: '${{ env.WORKERS }}'"), ["wrong_type"]);
    assert_eq!(stage_codes("command: c, pool: '${{ pool.width }}'"), ["unknown_name"]);
    assert_eq!(stage_codes("command: c, timeout: '${{ worker.rank }}s'"), ["worker_expression"]);
    let outside = "name: ${{ worker.rank }}\ndescription: ${{ stage.name }}\nstages: {a: {command: c}}";
    assert_eq!(codes(&mistakes(outside)), ["worker_expression", "unknown_name"]);
}

#[test]
fn a_variable_may_use_only_those_before_it() {
    let text = "vars: {a: '${{ vars.b }}', b: 1}\nstages: {a: {command: c, pool: '${{ vars.a }}'}}";
    assert_eq!(codes(&mistakes(text)), ["unknown_name"]);
}

#[test]
fn variables_may_be_maps_and_lists() {
    let text = "vars: {db: {host: h, ports: [1, 2]}}\n\
                stages: {a: {command: '${{ vars.db.host }}:${{ vars.db.ports[1] }}', env: '${{ {\"X\": vars.db.host} }}'}}";
    let pipeline = pipeline(text);
    assert_eq!(pipeline.stages[0].body, Body::Command(PerWorker::Same(Command::Shell("h:2".to_owned()))));
    assert_eq!(pipeline.stages[0].env, [("X".to_owned(), PerWorker::Same("h".to_owned()))]);
    let wrong = "vars: {db: {host: h}}\nstages: {a: {command: '${{ vars.db.hots }}'}}";
    assert_eq!(codes(&mistakes(wrong)), ["unknown_name"]);
}

#[test]
fn keys_are_not_expanded() {
    let text = "stages: {a: {command: c, env: {'${{ vars.x }}': 1}}}";
    assert_eq!(pipeline(text).stages[0].env[0].0, "${{ vars.x }}");
}

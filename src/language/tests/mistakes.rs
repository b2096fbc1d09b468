//! What a user sees: one snapshot for every kind of mistake.

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::{mistakes, parse};
use crate::language::Diagnostics;
use crate::model::{Place, Problem};

fn rendered(found: &Diagnostics) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .with_links(false);
    let mut text = String::new();
    for diagnostic in found {
        handler.render_report(&mut text, diagnostic).unwrap();
        text.push('\n');
    }
    text
}

/// Snapshots what is said of a document.
macro_rules! shows {
    ($($name:ident: $text:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::with_settings!({ description => $text, omit_expression => true }, {
                insta::assert_snapshot!(rendered(&mistakes($text)));
            });
        })*
    };
}

shows! {
    unknown_keys: "
stagse: {}
stages:
  a: {command: cat, modes: each, colour: red}
  b:
    command: cat
    start-method: fork
  c: {command: sort -k1,1nr}
";

    duplicate_keys: "
stages:
  a: {command: cat}
  a: {command: sort}
";

    wrong_types: "
stages:
  a:
    command: {program: ls}
    pool: '4'
    daemon: yes
    args: 3
    env: [A, B]
    watch: '*.py'
  b: cat
";

    durations_and_sizes: "
stages:
  a:
    command: cat
    timeout: 30
    stop: {grace: 10 parsecs}
    limits: {memory: 64, cpu_time: soon}
  b: {command: cat, limits: {memory: 2G}}
edges:
  - {queue: a -> b, max_record: 10 apples}
";

    words_that_are_not_allowed: "
stages:
  a: {command: cat, mode: strem, on_failure: contnue}
  b: {command: cat, start_method: clone, stop: {signal: term}, success_exit: [0, SIGPIP]}
";

    names: "
vars: {two-words: 1}
stages:
  stdout: {command: cat}
  1st stage: {command: cat}
shared: {my-lock: {lock: true}}
";

    expressions: "
vars: {width: 4, files: [a, b]}
stages:
  a:
    command: echo ${{ vars.widht }} and ${{ width }} and ${{ env.HOEM }}
    cwd: /tmp/${{ vars.files }}
    pool: ${{ vars.width + }}
    timeout: ${{ 10 + worker.rank }}s
  b:
    command: |
      set -e
      work --dir ${{ stage.nme }}
";

    a_text_that_should_be_a_number: "
stages: {a: {command: cat, pool: '${{ env.WORKERS }}'}}
";

    bodies: "
stages:
  none: {pool: 3}
  two: {command: cat, python: 'tasks:run'}
  python: {python: tasks}
";

    keys_without_effect: "
stages:
  filter: {command: cat, ordered: true, batch: 10}
  each: {command: gzip, mode: each, max_records_per_worker: 3}
  python: {python: 'tasks:run', line_buffered: true, preload: [numpy]}
";

    placeholders: "
stages:
  a: {command: 'gzip {}'}
  b: {command: [convert, '{}', 'out.png'], mode: map}
  c: {command: 'gzip {}', mode: each, batch: 10}
  d: {command: 'echo {} $(({} * 2))', mode: each}
";

    arrows: "
stages: {a: {command: cat}}
edges:
  - queue: a
  - queue: a -> -> b
  - queue: a -> stdin
  - pipe: a -> b c -> d
  - a -> b
  - {pipe: a -> b, capacity: 10}
  - {queue: a -> b, duplex: true, partition_by: user, when_full: drop_old}
";

    environments: "
env: {'A=B': 1, MPFLOW_RANK: 2, EMPTY: }
env_file: /nowhere/secrets.env
stages: {a: {command: cat, cwd: ~/data}}
";

    policies: "
stages:
  a:
    command: cat
    mode: map
    pool: {min: 4, max: 2}
    retry: {attempts: 0}
    restart: {policy: never, max: 3}
    ready: {tcp: localhost, http: 'http://localhost/'}
    depends_on: b
    limits: {nice: 30, cpus: []}
    success_exit: [300]
";

    shared_objects: "
stages: {a: {command: cat}}
shared:
  a: {}
  b: {lock: true, event: true}
  c: {array: f64}
  d: {value: i65}
  e: {value: u64, initial: -1}
  f: {lock: true, length: 3}
";

    no_stages: "name: empty\n";

    an_empty_document: "# nothing yet\n";

    mistakes_of_the_graph_beside_those_of_the_language: "
stages:
  source: {command: seq 10, pool: many}
  decode: {comand: cat}
  encode: [cat]
edges:
  - queue: source -> decodr
  - queue: decode -> encode
  - {queue: encode -> decode, capacity: none}
";

    a_home_for_anchors: "x-base: &base {pool: 2}\nstages: {a: {<<: *base, command: cat}}\n";

    two_documents: "stages: {a: {command: cat}}\n---\nstages: {}\n";

    an_unclosed_bracket: "stages:\n  a: {command: [cat, -n}\n";

    an_expression_without_quotes_in_braces: "stages: {a: {command: cat, pool: ${{ vars.width }}}}\n";

    a_tab: "stages:\n\ta: {command: cat}\n";

    a_colon_in_a_value: "stages:\n  a:\n    command: echo note: this\n";

    aliases: "
base: &base {pool: 2}
stages:
  a: {<<: *bsae, command: cat}
  b: {<<: 3, command: ls *.txt}
";

    an_alias_bomb: "
a: &a [x, x, x, x, x, x, x, x, x, x]
b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]
c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]
d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]
e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]
f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]
";

    a_tag: "stages: {a: {command: !secret cat, pool: !!int four}}\n";

    many_mistakes_at_once: "
version: 1
name: crawler
vars:
  width: four
  width: 4
defaults:
  pool: ${{ vars.widht }}
  timout: 10s
stages:
  fetch:
    command: curl -fsS {}
    retry: 3
    record_timeout: 20
  parse:
    python: tasks.parse
    mode: maps
  store:
    command: [sqlite3, out.db]
    limits: {memory: 1GB of it}
    depends_on: {fetch: done}
edges:
  - queue: stdin -> fetch -> parse
    capacity: 0
  - pipe: parse -> store
    format: json
  - queue: store -> stdin
shared:
  seen: {dict: [1]}
";
}

#[test]
fn problems_of_the_graph_look_like_those_of_the_language() {
    let text = "stages:\n  encode: {command: cat}\nedges:\n  - queue: decodr -> encode\n";
    let problem = Problem::error(
        "mpflow::unknown_stage",
        "edge `decodr -> encode` reads from `decodr`, which is not a stage",
    )
    .at(Place::EdgeFrom(0), "no stage has this name")
    .help("did you mean `encode`?");
    insta::assert_snapshot!(rendered(&parse(text).unwrap().diagnose(vec![problem])));
}

#[test]
fn warnings_are_marked_as_such() {
    let text = "stages: {a: {command: 'c {}', mode: each, restart: always}}";
    insta::assert_snapshot!(rendered(parse(text).unwrap().warnings()));
}

#[test]
fn the_plain_form_is_that_of_compilers() {
    let text = "stages:\n  é: {command: cat}\n  a: {command: cat}\n  a: {comand: cat}\n";
    insta::assert_snapshot!(mistakes(text).plain().to_string());
}

#[test]
fn the_json_form_is_for_editors() {
    let found = mistakes("stages:\n  a: {comand: 'é', pool: é}\n");
    insta::assert_snapshot!(serde_json::to_string_pretty(&found.to_json()).unwrap());
}

#[test]
fn all_mistakes_can_be_shown_as_one_error() {
    let found = mistakes("stages:\n  a: {comand: cat, pool: 0}\n");
    assert_eq!(found.to_string(), "`/work/dir/demo.yaml` has 2 errors");
    let mut text = String::new();
    let theme = GraphicalTheme::unicode_nocolor();
    GraphicalReportHandler::new_themed(theme).with_width(100).render_report(&mut text, &found).unwrap();
    insta::assert_snapshot!(text);
}

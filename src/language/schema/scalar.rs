//! Plain values. Wherever one may stand, an expression may.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::language::decode::words;
use crate::model::{MOST_WORKERS, Signal};

/// A text with an expression in it.
pub(super) struct Expression;

impl JsonSchema for Expression {
    fn schema_name() -> Cow<'static, str> {
        "Expression".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a value computed when the document is read: `${{ vars.x }}`",
            "type": "string",
            "pattern": r"\$\{\{[\s\S]*\}\}",
        })
    }
}

/// Any of these, or an expression.
fn or_expression(generator: &mut SchemaGenerator, alternatives: Vec<Value>) -> Schema {
    let mut alternatives = alternatives;
    alternatives.push(generator.subschema_for::<Expression>().to_value());
    json_schema!({ "anyOf": alternatives })
}

/// Declares types that stand for plain values.
macro_rules! scalars {
    ($($(#[$doc:meta])* $name:ident: $($schema:expr),+;)*) => {
        $(
            $(#[$doc])*
            #[derive(Default)]
            pub(super) struct $name;

            impl JsonSchema for $name {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                    or_expression(generator, vec![$($schema),+])
                }
            }
        )*
    };
}

const DURATION: &str = r"^\s*([0-9]+(\.[0-9]+)?\s*[A-Za-zµ]+\s*)+$";
const SIZE: &str = r"^\s*[0-9]+(\.[0-9]+)?\s*(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)\s*$";

fn enumeration<T>(words: &[(&str, T)]) -> Value {
    json!({ "enum": words.iter().map(|(word, _)| *word).collect::<Vec<_>>() })
}

fn signals() -> Value {
    let names: Vec<String> = Signal::names().collect();
    let short = names.iter().map(|name| name.trim_start_matches("SIG").to_owned());
    json!({ "enum": names.iter().cloned().chain(short).collect::<Vec<_>>() })
}

scalars! {
    /// A text.
    Text: json!({"type": "string"});
    /// A text that is not empty.
    FullText: json!({"type": "string", "minLength": 1});
    /// A text, or a number or truth value as it is written.
    LooseText: json!({"type": ["string", "number", "boolean"]});
    /// `true` or `false`.
    Truth: json!({"type": "boolean"});
    /// `true`.
    Yes: json!({"const": true});
    /// An integer of at least 1.
    Count: json!({"type": "integer", "minimum": 1});
    /// A number of at least 1.
    Factor: json!({"type": "number", "minimum": 1});
    /// A number from 0 to 1.
    Part: json!({"type": "number", "minimum": 0, "maximum": 1});
    /// A duration.
    Duration: json!({"type": "string", "pattern": DURATION});
    /// A size in bytes.
    Size: json!({"type": "string", "pattern": SIZE});
    /// The language version.
    Version: json!({"const": 1});
    /// A width.
    Width: json!({"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}), json!({"const": "auto"});
    /// A scheduling priority.
    Nice: json!({"type": "integer", "minimum": -20, "maximum": 19});
    /// A processor.
    Cpu: json!({"type": "integer", "minimum": 0, "maximum": 1023});
    /// The name of a signal.
    SignalName: signals();
    /// An exit.
    Exit: json!({"type": "integer", "minimum": -64, "maximum": 255}), signals();
    /// `null` or a path.
    File: json!({"type": ["string", "null"]});
    /// A Python callable.
    Callable: json!({"type": "string", "pattern": r"^[\s\S]+:[^:]+$"});
    /// A Python module.
    Module: json!({"type": "string", "pattern": r"^[^\s:/]+$"});
    /// A host and a port.
    Address: json!({"type": "string", "pattern": r"^.+:[0-9]+$"});
    /// A URL.
    Url: json!({"type": "string", "pattern": "^http://[^/]"});
    /// Ends of an edge.
    Arrow: json!({"type": "string", "pattern": r"^\s*[A-Za-z_][A-Za-z0-9_.-]*\s*(->\s*[A-Za-z_][A-Za-z0-9_.-]*\s*)+$"});
    /// What part of a record chooses its worker.
    PartitionKey: json!({"type": "integer", "minimum": 1}), json!({"type": "string", "pattern": "^/([^~]|~[01])*$"});
    /// A number or truth value.
    Initial: json!({"type": ["number", "boolean"]});
    /// A mode.
    Mode: enumeration(&words::MODES);
    /// A start method.
    StartMethod: enumeration(&words::START_METHODS);
    /// What becomes of a record.
    OnError: enumeration(&words::ON_ERROR);
    /// What becomes of the pipeline.
    OnFailure: enumeration(&words::ON_FAILURE);
    /// When a worker is started again.
    RestartPolicy: enumeration(&words::POLICIES);
    /// What restarts together.
    RestartScope: enumeration(&words::SCOPES);
    /// A state of a stage.
    State: enumeration(&words::STATES);
    /// A format.
    Format: enumeration(&words::FORMATS);
    /// What happens to a record that does not fit.
    WhenFull: enumeration(&words::WHEN_FULL);
    /// A type of shared values.
    Element: enumeration(&words::ELEMENTS);
}

/// A list or map, or an expression that gives one; nothing at all is an empty one.
pub(super) struct Whole<T>(PhantomData<T>);

impl<T> Default for Whole<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: JsonSchema> JsonSchema for Whole<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Whole_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let whole = generator.subschema_for::<T>().to_value();
        or_expression(generator, vec![whole, json!({"type": "null"})])
    }
}

/// A map, or an expression that gives one.
pub(super) struct Object<T>(PhantomData<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Object_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let object = generator.subschema_for::<T>().to_value();
        or_expression(generator, vec![object])
    }
}

/// One or the other.
pub(super) struct Either<A, B>(PhantomData<(A, B)>);

impl<A, B> Default for Either<A, B> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: JsonSchema, B: JsonSchema> JsonSchema for Either<A, B> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}_or_{}", A::schema_name(), B::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (a, b) = (generator.subschema_for::<A>().to_value(), generator.subschema_for::<B>().to_value());
        json_schema!({ "anyOf": [a, b] })
    }
}

/// A list of at least one.
pub(super) struct Some1<T>(PhantomData<T>);

impl<T> Default for Some1<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: JsonSchema> JsonSchema for Some1<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Some_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>().to_value();
        or_expression(generator, vec![json!({"type": "array", "items": item, "minItems": 1})])
    }
}

/// A map from names of the user's to values. `IDENTIFIERS`: whether the names may have no `-`.
pub(super) struct Named<T, const IDENTIFIERS: bool = false>(PhantomData<T>);

impl<T, const IDENTIFIERS: bool> Default for Named<T, IDENTIFIERS> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: JsonSchema, const IDENTIFIERS: bool> JsonSchema for Named<T, IDENTIFIERS> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}_{IDENTIFIERS}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>().to_value();
        let pattern = if IDENTIFIERS {
            "^[A-Za-z_][A-Za-z0-9_]*$"
        } else {
            "^(?!(stdin|stdout)$)[A-Za-z_][A-Za-z0-9_-]*$"
        };
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": pattern },
            "additionalProperties": value,
        })
    }
}

/// Any value.
#[derive(Default)]
pub(super) struct Anything;

impl JsonSchema for Anything {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Anything".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}

/// Environment variables.
#[derive(Default)]
pub(super) struct Environment;

impl JsonSchema for Environment {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Environment".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<LooseText>().to_value();
        let names = json!({ "pattern": "^(?!MPFLOW_)[^=]+$" });
        let map = json!({ "type": "object", "propertyNames": names, "additionalProperties": value });
        or_expression(generator, vec![map, json!({"type": "null"})])
    }
}

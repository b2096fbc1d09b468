//! The stable codes of this layer's diagnostics. The graph has its own.

/// Declares the codes and the list of them all.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub(in crate::language) const $name: &str = concat!("mpflow::", $code);)*
        /// Every code of this layer.
        #[cfg(test)]
        pub(in crate::language) const ALL: &[&str] = &[$($name),*];
    };
}

codes! {
    /// The file cannot be read.
    UNREADABLE_FILE = "unreadable_file";
    /// The file is not UTF-8.
    NOT_UTF8 = "not_utf8";
    /// The file is larger than a document may be.
    DOCUMENT_TOO_LARGE = "document_too_large";
    /// Nothing is in the file.
    EMPTY_DOCUMENT = "empty_document";
    /// The file holds more than one YAML document.
    SEVERAL_DOCUMENTS = "several_documents";
    /// The text is not YAML.
    YAML_SYNTAX = "yaml_syntax";
    /// Lists and maps are nested too deeply.
    TOO_DEEP = "too_deep";
    /// An alias names no anchor, or stands inside its own.
    UNKNOWN_ALIAS = "unknown_alias";
    /// Aliases expand without bound.
    ALIAS_BOMB = "alias_bomb";
    /// A tag has no meaning here.
    UNKNOWN_TAG = "unknown_tag";
    /// A key stands twice in one map.
    DUPLICATE_KEY = "duplicate_key";
    /// A key is not one of the language.
    UNKNOWN_KEY = "unknown_key";
    /// A key must be there and is not.
    MISSING_KEY = "missing_key";
    /// Two keys exclude each other.
    CONFLICTING_KEYS = "conflicting_keys";
    /// A key would do nothing where it stands.
    KEY_WITHOUT_EFFECT = "key_without_effect";
    /// A value is of the wrong type.
    WRONG_TYPE = "wrong_type";
    /// A value is of the right type and yet none of those allowed.
    INVALID_VALUE = "invalid_value";
    /// A number is too small or too large.
    OUT_OF_RANGE = "out_of_range";
    /// A duration cannot be read.
    INVALID_DURATION = "invalid_duration";
    /// A size cannot be read.
    INVALID_SIZE = "invalid_size";
    /// A name has a character it may not have.
    INVALID_NAME = "invalid_name";
    /// A name belongs to the language.
    RESERVED_NAME = "reserved_name";
    /// The language version is not known.
    UNSUPPORTED_VERSION = "unsupported_version";
    /// An expression names nothing that is known.
    UNKNOWN_NAME = "unknown_name";
    /// An expression cannot be read.
    EXPRESSION_SYNTAX = "expression_syntax";
    /// An expression can be read and has no value.
    EXPRESSION_FAILED = "expression_failed";
    /// An expression differs from worker to worker where one value is wanted.
    WORKER_EXPRESSION = "worker_expression";
    /// The arrow of an edge cannot be read.
    INVALID_EDGE = "invalid_edge";
    /// An option of a queue stands on a pipe, or the reverse.
    WRONG_OPTION = "wrong_option";
    /// A stage has no body, or more than one.
    ONE_BODY = "one_body";
    /// A placeholder of `each` stands in a stage of another mode.
    PLACEHOLDER_OUTSIDE_EACH = "placeholder_outside_each";
    /// A placeholder of one record stands in a stage that takes many at once.
    PLACEHOLDER_IN_BATCH = "placeholder_in_batch";
    /// A placeholder of a record stands in an arithmetic expansion of a shell.
    PLACEHOLDER_IN_ARITHMETIC = "placeholder_in_arithmetic";
    /// A file of variables cannot be read.
    ENV_FILE = "env_file";
    /// `--set` names a variable that the document never uses.
    UNKNOWN_VARIABLE = "unknown_variable";
    /// `--pool` names no stage.
    UNKNOWN_STAGE = "unknown_stage";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_all_different() {
        let distinct: std::collections::BTreeSet<_> = ALL.iter().collect();
        assert_eq!(distinct.len(), ALL.len());
    }
}

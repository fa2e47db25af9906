//! What a pattern comes to: rules, of which one must match. A rule is what is left of a
//! pattern when one alternative is taken of every `$or` in it.

use std::collections::BTreeMap;

use super::value::Wanted;

/// A rule while it is read: the values that each path wants, both by number.
pub(super) type Draft = BTreeMap<usize, usize>;

/// A field of a rule, by the numbers of its path and of what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Field {
    /// Which path.
    pub(super) path: usize,
    /// Which values.
    pub(super) wanted: usize,
    /// How many bytes of its path the next field's begins with too.
    pub(super) shared: usize,
}

/// Rules, with their paths and values, each kept once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    paths: Box<[Box<str>]>,
    wanted: Box<[Wanted]>,
    rules: Box<[Box<[Field]>]>,
}

impl Rules {
    /// The rules of these drafts. `paths` are numbered by their values.
    pub(super) fn new(paths: BTreeMap<String, usize>, wanted: Vec<Wanted>, drafts: Vec<Draft>) -> Self {
        let mut paths: Vec<(String, usize)> = paths.into_iter().collect();
        // AWS's matcher looks at fields in Java's order of strings. The order matters where a
        // field must be absent from the array element that an earlier field was found in.
        paths.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        let places: BTreeMap<usize, usize> = paths.iter().enumerate().map(|(i, (_, path))| (*path, i)).collect();
        let field = |(path, wanted): (usize, usize)| {
            let path = places.get(&path).copied().unwrap_or_default();
            Field { path, wanted, shared: 0 }
        };
        let paths: Box<[Box<str>]> = paths.into_iter().map(|(path, _)| path.into_boxed_str()).collect();
        let rule = |draft: Draft| {
            let mut fields: Vec<Field> = draft.into_iter().map(field).collect();
            fields.sort();
            for i in 1..fields.len() {
                fields[i - 1].shared = shared(&paths[fields[i - 1].path], &paths[fields[i].path]);
            }
            fields.into_boxed_slice()
        };
        let mut rules: Vec<Box<[Field]>> = drafts.into_iter().map(rule).collect();
        rules.sort();
        rules.dedup();
        Self { paths, wanted: wanted.into(), rules: rules.into() }
    }

    /// About how many bytes its paths and combinations take.
    pub(super) fn bytes(&self) -> usize {
        let paths: usize = self.paths.iter().map(|path| size_of::<Box<str>>() + path.len()).sum();
        let rules: usize = self.rules.iter().map(|rule| size_of::<Box<[Field]>>() + size_of_val::<[Field]>(rule)).sum();
        paths + rules + self.wanted.len() * size_of::<Wanted>()
    }

    /// The rules.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[Field]> {
        self.rules.iter().map(|rule| &**rule)
    }

    /// The path of a field.
    pub(super) fn path(&self, field: Field) -> &str {
        &self.paths[field.path]
    }

    /// What a field wants.
    pub(super) fn wanted(&self, field: Field) -> &Wanted {
        &self.wanted[field.wanted]
    }
}

/// The bytes that two texts have in common at their beginning, in whole characters.
fn shared(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}

//! The ES modules of the app as two files: `main.js` has what it imports at once, `screens.js`
//! what it loads later. Each module becomes a function that gives its exports. The forms of
//! `import` and `export` that are understood are those that the app uses; any other one is an
//! error of the build.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use regex::{Captures, Regex};

use crate::Texts;

/// The module that begins.
const ROOT: &str = "main.js";
/// The file of what is loaded later.
const LATER: &str = "screens.js";
/// What comes before the modules of `main.js`: the modules that are known, and those that ran.
const HEAD: &str = "\
// Preact: MIT, vendor/LICENSE-preact. htm: Apache-2.0, vendor/LICENSE-htm.
export const modules = {};
const made = {};
export const use = (name) => (made[name] ??= modules[name]());
export const later = (name) => import('./screens.js').then(() => use(name));
";
/// The same for `screens.js`.
const LATER_HEAD: &str = "import { modules, use, later } from './main.js';\n";

/// A module of the app, rewritten.
struct Module {
    /// The modules that it imports at once.
    imports: Vec<String>,
    /// Its text as the body of a function.
    body: String,
}

/// The forms that are understood.
struct Forms {
    named_import: Regex,
    default_import: Regex,
    exported_declaration: Regex,
    export_list: Regex,
    default_export: Regex,
    later_import: Regex,
    left_over: Regex,
}

impl Forms {
    fn new() -> Result<Self, regex::Error> {
        Ok(Self {
            named_import: Regex::new(r#"(?m)^import\s*\{([^}]*)\}\s*from\s*['"]([^'"]+)['"];?"#)?,
            default_import: Regex::new(r#"(?m)^import\s+(\w+)\s+from\s*['"]([^'"]+)['"];?"#)?,
            exported_declaration: Regex::new(r"(?m)^export ((?:async function|function|const|class)\*? (\w+))")?,
            export_list: Regex::new(r#"export\s*\{([^}]*)\}(?:\s*from\s*['"]([^'"]+)['"])?;?"#)?,
            default_export: Regex::new(r"export default ")?,
            later_import: Regex::new(r#"\bimport\(\s*['"]([^'"]+)['"]\s*\)"#)?,
            left_over: Regex::new(r"(?m)^\s*(?:import|export)\b")?,
        })
    }

    fn module(&self, name: &str, text: &str) -> io::Result<Module> {
        let mut imports = Vec::new();
        let mut exports: Vec<String> = Vec::new();
        let mut use_of = |from: &str| {
            let target = resolved(name, from);
            imports.push(target.clone());
            format!("use('{target}')")
        };
        let body = self.named_import.replace_all(text, |found: &Captures<'_>| {
            format!("const {{{}}} = {};", found[1].replace(" as ", ": "), use_of(&found[2]))
        });
        let body = self
            .default_import
            .replace_all(&body, |found: &Captures<'_>| format!("const {} = {}.default;", &found[1], use_of(&found[2])));
        let body = self.export_list.replace_all(&body, |found: &Captures<'_>| {
            let names = found[1].split(',').map(str::trim).filter(|name| !name.is_empty());
            let pairs = names.map(|name| name.split_once(" as ").unwrap_or((name, name)));
            match found.get(2) {
                None => exports.extend(pairs.map(|(inner, outer)| format!("{outer}: {inner}"))),
                Some(from) => {
                    let source = use_of(from.as_str());
                    exports.extend(pairs.map(|(inner, outer)| format!("{outer}: {source}.{inner}")));
                }
            }
            String::new()
        });
        let body = self.exported_declaration.replace_all(&body, |found: &Captures<'_>| {
            exports.push(found[2].to_owned());
            found[1].to_owned()
        });
        let body = self.default_export.replace_all(&body, |_: &Captures<'_>| {
            exports.push("default: made_default".to_owned());
            "const made_default = ".to_owned()
        });
        let body = self
            .later_import
            .replace_all(&body, |found: &Captures<'_>| format!("later('{}')", resolved(name, &found[1])));
        if let Some(found) = self.left_over.find(&body) {
            let line = body[found.start()..].trim_start().lines().next().unwrap_or_default();
            return Err(io::Error::other(format!("{name}: this form is not understood: {line}")));
        }
        let body = format!("{}\nreturn {{ {} }};", body.trim(), exports.join(", "));
        Ok(Module { imports, body })
    }
}

/// The name of the file that a module of this name imports from.
fn resolved(name: &str, from: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in from.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The modules that `root` imports, and those that they import. Two that import each other would
/// never end.
fn closure(
    modules: &BTreeMap<String, Module>,
    root: &str,
    path: &mut Vec<String>,
    found: &mut BTreeSet<String>,
) -> io::Result<()> {
    if path.iter().any(|above| above == root) {
        return Err(io::Error::other(format!("modules import each other: {} {root}", path.join(" "))));
    }
    let module = modules.get(root).ok_or_else(|| io::Error::other(format!("there is no module {root}")))?;
    path.push(root.to_owned());
    for import in &module.imports {
        if !found.contains(import) || path.contains(import) {
            closure(modules, import, path, found)?;
        }
    }
    path.pop();
    found.insert(root.to_owned());
    Ok(())
}

pub(crate) fn packed(scripts: &Texts) -> io::Result<Texts> {
    let forms = Forms::new().map_err(io::Error::other)?;
    let modules = scripts.iter().map(|(name, text)| Ok((name.clone(), forms.module(name, text)?)));
    let modules = modules.collect::<io::Result<BTreeMap<_, _>>>()?;
    let mut first = BTreeSet::new();
    closure(&modules, ROOT, &mut Vec::new(), &mut first)?;
    for name in modules.keys() {
        closure(&modules, name, &mut Vec::new(), &mut first.clone())?;
    }
    let (mut at_once, mut later) = (HEAD.to_owned(), LATER_HEAD.to_owned());
    for (name, module) in &modules {
        let file = if first.contains(name) { &mut at_once } else { &mut later };
        file.push_str(&format!("modules['{name}'] = () => {{\n{}\n}};\n", module.body));
    }
    at_once.push_str(&format!("use('{ROOT}');\n"));
    Ok(Texts::from([(ROOT.to_owned(), at_once), (LATER.to_owned(), later)]))
}

//! Checks every answer that a test gets against `infra/openapi.yaml`.

use std::collections::HashMap;
use std::sync::OnceLock;

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

const DOCUMENT: &str = "urn:steadhook:openapi";

struct Contract {
    document: Value,
    registry: Registry<'static>,
}

fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(|| {
        let document: Value = serde_yaml_ng::from_str(include_str!("../../infra/openapi.yaml")).unwrap();
        let registry = Registry::new().add(DOCUMENT, document.clone()).unwrap().prepare().unwrap();
        Contract { document, registry }
    })
}

/// The key of the route of a request, or that of whatever is no route.
pub fn route_key(method: &str, path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let found = template(&contract().document, &method.to_lowercase(), path);
    found.map_or("$default".to_owned(), |template| format!("{method} {template}"))
}

/// The path of the contract that a request's path is an instance of: the literal
/// one if there is one.
fn template(document: &Value, method: &str, path: &str) -> Option<String> {
    let fits = |template: &&String| {
        let (wanted, given): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
        wanted.len() == given.len() && wanted.iter().zip(&given).all(|(w, g)| w == g || w.starts_with('{'))
    };
    let paths = document["paths"].as_object()?;
    let mut fitting: Vec<&String> = paths.keys().filter(fits).collect();
    fitting.sort_by_key(|template| template.matches('{').count());
    fitting.into_iter().find(|template| paths[*template].get(method).is_some()).cloned()
}

fn token(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1").replace('{', "%7B").replace('}', "%7D")
}

/// Follows one `$ref` within the document.
fn resolved<'d>(document: &'d Value, value: &'d Value, pointer: String) -> (&'d Value, String) {
    match value["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.trim_start_matches('#').to_owned();
            (document.pointer(&pointer).unwrap(), pointer)
        }
        None => (value, pointer),
    }
}

/// The path of the contract that a request's path is an instance of, and the names in it, as the
/// gateway finds them.
///
/// # Panics
/// When there is none.
pub fn route(method: &str, path: &str) -> (String, HashMap<String, String>) {
    let path = path.split('?').next().unwrap_or_default();
    let found = template(&contract().document, &method.to_lowercase(), path);
    let found = found.unwrap_or_else(|| panic!("the contract has no {method} {path}"));
    let name = |part: &str| part.strip_prefix('{')?.strip_suffix('}').map(str::to_owned);
    let pairs = found.split('/').zip(path.split('/'));
    let names = pairs.filter_map(|(wanted, given)| Some((name(wanted)?, given.to_owned()))).collect();
    (found, names)
}

/// Whether an answer is one that the contract knows.
///
/// # Panics
/// When it is not.
pub fn check(method: &str, path: &str, status: u16, kind: Option<&str>, body: &str) {
    let Contract { document, registry } = contract();
    let method = method.to_lowercase();
    let path = path.split('?').next().unwrap_or_default();
    let Some(template) = template(document, &method, path) else {
        assert!([404, 405].contains(&status), "{method} {path} is not in the contract and answers {status}");
        let problem = format!("{DOCUMENT}#/components/schemas/Problem");
        return validate(registry, &problem, body, path);
    };
    if status == 403 {
        // Every route answers so to a token that does not open it.
        return validate(registry, &format!("{DOCUMENT}#/components/schemas/Problem"), body, path);
    }
    let responses = &document["paths"][&template][&method]["responses"];
    let response = &responses[status.to_string()];
    assert!(response.is_object(), "{method} {template} may not answer {status}: {body}");
    let pointer = format!("/paths/{}/{method}/responses/{status}", token(&template));
    let (response, pointer) = resolved(document, response, pointer);
    let Some((wanted, _)) = response["content"].as_object().and_then(|content| content.iter().next()) else {
        assert!(body.is_empty(), "{method} {template} {status} has no body in the contract");
        return;
    };
    let media = kind.and_then(|kind| kind.split(';').next());
    assert_eq!(media, Some(wanted.as_str()), "{method} {template} {status}");
    if wanted == "text/plain" {
        return;
    }
    validate(registry, &format!("{DOCUMENT}#{pointer}/content/{}/schema", token(wanted)), body, path);
}

fn validate(registry: &Registry<'static>, schema: &str, body: &str, what: &str) {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{what}: {error}: {body}"));
    let validator: Validator = jsonschema::options()
        .with_registry(registry)
        .should_validate_formats(true)
        .build(&json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": schema }))
        .unwrap();
    let faults: Vec<String> =
        validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{what}: {faults:?}\n{body}");
}

/// Whether every example of the contract is valid. Gives how many there are.
///
/// # Panics
/// When one is not.
pub fn check_examples() -> usize {
    let Contract { document, registry } = contract();
    let mut count = 0;
    let mut stack = vec![(document, String::new())];
    while let Some((value, pointer)) = stack.pop() {
        let Some(fields) = value.as_object() else {
            for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                stack.push((item, format!("{pointer}/{i}")));
            }
            continue;
        };
        if let (Some(examples), Some(_)) = (value["examples"].as_object(), value.get("schema")) {
            for (name, example) in examples {
                let schema = format!("{DOCUMENT}#{pointer}/schema");
                validate(registry, &schema, &example["value"].to_string(), &format!("{pointer} {name}"));
                count += 1;
            }
        }
        stack.extend(fields.iter().map(|(name, value)| (value, format!("{pointer}/{}", token(name)))));
    }
    count
}

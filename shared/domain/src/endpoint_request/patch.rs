//! A change of an endpoint: a merge patch (RFC 7396), in which `null` takes a field away.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use url::Url;

use super::fields;
use super::headers::{self, HeaderChange};
use super::settings::{Confidential, HeaderSetting, Settings};
use super::state::StateRequest;
use crate::address::Guard;
use crate::destination::Destination;
use crate::endpoint::{Card, CardHeader, MAX_METADATA};
use crate::fault::{Fault, Faults, pointer_token};
use crate::filter::Pattern;
use crate::headers::MAX_HEADERS;
use crate::object::ObjectReader;
use crate::rate::Rate;
use crate::schedule::RetrySchedule;

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change<T> {
    Keep,
    Remove,
    Set(T),
}

impl<T> Change<T> {
    /// Reads a field that may be left out, or be `null`.
    fn read<'a>(
        reader: &mut ObjectReader<'a>,
        name: &str,
        read: impl FnOnce(&mut ObjectReader<'a>) -> Option<T>,
    ) -> Self {
        match reader.raw(name) {
            None => Self::Keep,
            Some(raw) if fields::is_null(raw) => Self::Remove,
            Some(_) => read(reader).map_or(Self::Keep, Self::Set),
        }
    }

    fn or_none(self, before: &Option<T>) -> Option<T>
    where
        T: Clone,
    {
        match self {
            Self::Keep => before.clone(),
            Self::Remove => None,
            Self::Set(value) => Some(value),
        }
    }

    fn or(self, before: &T, without: T) -> T
    where
        T: Clone,
    {
        match self {
            Self::Keep => before.clone(),
            Self::Remove => without,
            Self::Set(value) => value,
        }
    }
}

/// A change of an endpoint that passed every check which needs no card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    url: Option<String>,
    uid: Change<String>,
    description: Change<String>,
    event_types: Change<Vec<String>>,
    filter: Change<Pattern>,
    headers: Change<BTreeMap<String, HeaderChange>>,
    retry_schedule: Change<RetrySchedule>,
    rate: Change<Rate>,
    metadata: Change<BTreeMap<String, Option<String>>>,
    state: Option<StateRequest>,
}

impl Patch {
    /// Reads a change.
    ///
    /// # Errors
    /// Every fault of it.
    pub fn read(raw: &RawValue, guard: &Guard) -> Result<Self, Faults> {
        let known = [fields::SETTINGS, StateRequest::FIELDS, &["secret"]].concat();
        let mut reader = ObjectReader::open("", raw, &known, "a change of an endpoint")?;
        if reader.raw("secret").is_some() {
            reader.fault("secret", "cannot be changed here; use rotate-secret");
        }
        let patch = Self {
            url: fields::url(&mut reader, guard),
            uid: Change::read(&mut reader, "uid", fields::uid),
            description: Change::read(&mut reader, "description", fields::description),
            event_types: Change::read(&mut reader, "event_types", fields::event_types),
            filter: Change::read(&mut reader, "filter", fields::filter),
            headers: Change::read(&mut reader, "headers", |reader| headers::read(reader, true)),
            retry_schedule: Change::read(&mut reader, "retry_schedule_s", fields::retry_schedule),
            rate: Change::read(&mut reader, "rate_per_s", fields::rate),
            metadata: Change::read(&mut reader, "metadata", |reader| fields::metadata(reader, true)),
            state: StateRequest::read(&mut reader),
        };
        let faults = reader.finish();
        if faults.is_empty() { Ok(patch) } else { Err(faults) }
    }

    /// The state that is asked for.
    pub fn state(&self) -> Option<StateRequest> {
        self.state
    }

    /// What the endpoint of this card becomes, but for its state. Sensitive headers do not follow it to a new
    /// origin, unless they are given again: else whoever may change a URL could collect
    /// them.
    ///
    /// # Errors
    /// Every fault of the result.
    pub fn apply(self, card: &Card) -> Result<Settings, Faults> {
        let mut faults = Faults::default();
        let moves = self.url.as_ref().is_some_and(|url| origin(url) != origin(&card.url));
        let headers = changed_headers(self.headers, card, moves, &mut faults);
        let metadata = changed_metadata(self.metadata, &card.metadata);
        for (pointer, count, most) in
            [("/headers", headers.len(), MAX_HEADERS), ("/metadata", metadata.len(), MAX_METADATA)]
        {
            if count > most {
                faults.add(|| Fault::at(pointer, format!("the endpoint would have {count}; at most {most}")));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Settings {
            url: self.url.unwrap_or_else(|| card.url.clone()),
            uid: self.uid.or_none(&card.uid),
            description: self.description.or(&card.description, String::new()),
            event_types: self.event_types.or(&card.event_types, Vec::new()),
            filter: self.filter.or_none(&card.filter),
            headers,
            retry_schedule: self.retry_schedule.or(&card.retry_schedule, RetrySchedule::default()),
            rate: self.rate.or_none(&card.rate),
            metadata,
        })
    }
}

fn origin(url: &str) -> Option<Destination> {
    Url::parse(url).ok().as_ref().map(Destination::of)
}

fn changed_metadata(
    change: Change<BTreeMap<String, Option<String>>>,
    before: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut metadata = before.clone();
    match change {
        Change::Keep => {}
        Change::Remove => metadata.clear(),
        Change::Set(entries) => {
            for (name, value) in entries {
                match value {
                    Some(value) => metadata.insert(name, value),
                    None => metadata.remove(&name),
                };
            }
        }
    }
    metadata
}

fn changed_headers(
    change: Change<BTreeMap<String, HeaderChange>>,
    card: &Card,
    moves: bool,
    faults: &mut Faults,
) -> BTreeMap<String, HeaderSetting> {
    let kept = card.headers.iter().filter_map(|(name, header)| match header {
        CardHeader::Plain(value) => Some((name.clone(), HeaderSetting::Plain(value.clone()))),
        CardHeader::Sealed(sealed) => (!moves).then(|| (name.clone(), HeaderSetting::Kept(sealed.clone()))),
    });
    let mut headers: BTreeMap<_, _> = kept.collect();
    let changes = match change {
        Change::Keep => return headers,
        Change::Remove => return BTreeMap::new(),
        Change::Set(changes) => changes,
    };
    for (name, change) in changes {
        let before = card.headers.get(&name);
        let was_sensitive = matches!(before, Some(CardHeader::Sealed(_)));
        let setting = match (change, before) {
            (HeaderChange::Remove, _) => {
                headers.remove(&name);
                continue;
            }
            (HeaderChange::Set { value: Some(value), sensitive }, _) => {
                HeaderSetting::new(value, sensitive.unwrap_or(was_sensitive))
            }
            (HeaderChange::Set { value: None, sensitive: Some(true) }, Some(CardHeader::Plain(value))) => {
                HeaderSetting::Sensitive(Confidential::new(value.clone()))
            }
            (HeaderChange::Set { value: None, sensitive: Some(false) }, Some(CardHeader::Sealed(_))) => {
                faults.add(|| at(&name, "its value is not shown; give a new one"));
                continue;
            }
            // It stays as it is, or does not follow to a new origin.
            (HeaderChange::Set { value: None, .. }, Some(_)) => continue,
            (HeaderChange::Set { value: None, .. }, None) => {
                faults.add(|| at(&name, "the endpoint has no such header yet; give its value"));
                continue;
            }
        };
        headers.insert(name, setting);
    }
    headers
}

fn at(name: &str, message: &str) -> Fault {
    Fault::at(format!("/headers/{}", pointer_token(name)), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointState;
    use crate::time::Millis;

    fn card() -> Card {
        let sealed = serde_json::from_str(r#""k.AAAA""#).unwrap();
        Card {
            tenant: "acme".into(),
            id: format!("ep_{}", "a".repeat(22)),
            uid: Some("one".into()),
            url: "https://a.example/".into(),
            description: "old".into(),
            event_types: vec!["a".into()],
            filter: Some(serde_json::from_str(r#""{\"payload\":{\"a\":[1]}}""#).unwrap()),
            headers: BTreeMap::from([
                ("x-plain".into(), CardHeader::Plain("1".into())),
                ("authorization".into(), CardHeader::Sealed(sealed)),
            ]),
            secrets: Vec::new(),
            retry_schedule: RetrySchedule::new(vec![1]).unwrap(),
            rate: Rate::try_from(2.5).ok(),
            state: EndpointState::Enabled,
            state_reason: None,
            state_since: Millis(1),
            disabled_by: None,
            owed_dropped_before: None,
            metadata: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
            created_at: Millis(1),
            updated_at: Millis(1),
            version: 1,
            change_id: String::new(),
        }
    }

    fn patched(text: &str) -> Result<Settings, Vec<String>> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let patch = Patch::read(raw, &Guard::default()).and_then(|patch| patch.apply(&card()));
        patch.map_err(|faults| faults.told().iter().map(|fault| fault.pointer.clone()).collect())
    }

    fn names(settings: &Settings) -> Vec<&str> {
        settings.headers.keys().map(String::as_str).collect()
    }

    #[test]
    fn what_is_not_named_stays_and_null_removes() {
        let same = patched("{}").unwrap();
        assert_eq!((same.uid.as_deref(), same.description.as_str(), same.metadata.len()), (Some("one"), "old", 2));
        assert!(matches!(same.headers["authorization"], HeaderSetting::Kept(_)));
        let bare = patched(
            r#"{"uid":null,"description":null,"event_types":null,"filter":null,"headers":null,"retry_schedule_s":null,"rate_per_s":null,"metadata":null}"#,
        )
        .unwrap();
        assert_eq!(bare.url, "https://a.example/");
        assert!(bare.uid.is_none() && bare.description.is_empty() && bare.event_types.is_empty());
        assert!(same.filter.is_some() && bare.filter.is_none());
        assert!(bare.headers.is_empty() && bare.metadata.is_empty());
        assert_eq!(bare.retry_schedule, RetrySchedule::default());
        assert_eq!((same.rate, bare.rate), (Rate::try_from(2.5).ok(), None));
    }

    #[test]
    fn entries_are_merged_one_by_one() {
        let merged = patched(r#"{"metadata":{"a":null,"c":"3"},"headers":{"X-Plain":null,"x-new":"n"}}"#).unwrap();
        assert_eq!(merged.metadata, BTreeMap::from([("b".into(), "2".into()), ("c".into(), "3".into())]));
        assert_eq!(names(&merged), ["authorization", "x-new"]);
    }

    #[test]
    fn a_sensitive_value_is_kept_changed_or_removed_and_never_uncovered() {
        let header = |text: &str| {
            let settings = patched(&format!(r#"{{"headers":{{"Authorization":{text}}}}}"#));
            settings.map(|settings| settings.headers["authorization"].clone())
        };
        let new = || Confidential::new("n".into());
        assert!(matches!(header(r#"{"sensitive":true}"#), Ok(HeaderSetting::Kept(_))));
        assert!(matches!(header("{}"), Ok(HeaderSetting::Kept(_))));
        assert_eq!(header(r#"{"value":"n"}"#), Ok(HeaderSetting::Sensitive(new())), "it stays sensitive");
        assert_eq!(header(r#"{"value":"n","sensitive":null}"#), Ok(HeaderSetting::Plain("n".into())));
        for uncovered in [r#"{"sensitive":false}"#, r#"{"sensitive":null}"#] {
            assert_eq!(header(uncovered), Err(vec!["/headers/authorization".into()]));
        }
        let sealed = patched(r#"{"headers":{"x-plain":{"sensitive":true}}}"#).unwrap();
        assert_eq!(sealed.headers["x-plain"], HeaderSetting::Sensitive(Confidential::new("1".into())));
        assert_eq!(
            patched(r#"{"headers":{"x-none":{"sensitive":true}}}"#).unwrap_err(),
            ["/headers/x-none"],
            "there is no value to keep"
        );
    }

    #[test]
    fn sensitive_headers_do_not_follow_to_a_new_origin() {
        let same = patched(r#"{"url":"https://a.example:443/other"}"#).unwrap();
        assert_eq!(names(&same), ["authorization", "x-plain"]);
        let moved = patched(r#"{"url":"https://a.example:444/"}"#).unwrap();
        assert_eq!(names(&moved), ["x-plain"]);
        let kept = patched(r#"{"url":"https://b.example/","headers":{"authorization":{"sensitive":true}}}"#).unwrap();
        assert_eq!(names(&kept), ["x-plain"], "its value is not given again");
        let given =
            patched(r#"{"url":"https://b.example/","headers":{"authorization":{"value":"n","sensitive":true}}}"#);
        assert_eq!(names(&given.unwrap()), ["authorization", "x-plain"]);
    }

    #[test]
    fn all_faults_of_a_change_are_named() {
        assert_eq!(
            patched(
                r#"{"url":null,"secret":"x","filter":{"payload":[]},"uid":"a b","rate_per_s":501,"state":"disabled","catch_up":1,"x":1}"#
            )
            .unwrap_err(),
            ["/x", "/secret", "/url", "/uid", "/filter/payload", "/rate_per_s", "/state", "/catch_up"]
        );
        let many = |n: usize| (0..n).map(|i| format!(r#""x-{i}":"v""#)).collect::<Vec<_>>().join(",");
        assert!(patched(&format!(r#"{{"headers":{{{}}}}}"#, many(18))).is_ok());
        assert_eq!(
            patched(&format!(r#"{{"headers":{{{}}},"metadata":{{{}}}}}"#, many(19), many(19))).unwrap_err(),
            ["/headers", "/metadata"],
            "with those that it has already"
        );
    }
}

//! One contract for the registry's table and for its model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use adapters::aws::registry::RegistryTable;
use adapters::registry::{
    CardFound, CardLists as _, Cards as _, Catalogued, EndpointKey, EventTypes as _, Registry, Resealing, Tenant,
    Written,
};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use domain::endpoint::{Card, EndpointState};
use domain::event_type::{Definition, EventType, JsonText};
use domain::filter::{Filter, Pattern};
use domain::schedule::RetrySchedule;
use domain::time::Millis;
use futures_util::future::join_all;
use strum::IntoEnumIterator as _;
use tests::registry_model::RegistryModel;
use tests::stack::Stack;

const NOW: Millis = Millis(1_700_000_000_000);
const MANY: u64 = 10_000;

fn card(tenant: &str, number: usize, uid: Option<&str>) -> Card {
    Card {
        tenant: tenant.into(),
        id: format!("ep_{number:022}"),
        uid: uid.map(str::to_owned),
        url: "https://a.example/é".into(),
        description: String::new(),
        event_types: Vec::new(),
        filter: None,
        headers: BTreeMap::new(),
        secrets: Vec::new(),
        retry_schedule: RetrySchedule::default(),
        rate: None,
        state: EndpointState::Enabled,
        state_reason: None,
        state_since: NOW,
        disabled_by: None,
        owed_dropped_before: None,
        metadata: BTreeMap::new(),
        created_at: NOW,
        updated_at: NOW,
        version: 1,
        change_id: String::new(),
    }
}

fn changed(card: &Card, change: impl FnOnce(&mut Card)) -> Card {
    let mut changed = Card { version: card.version + 1, ..card.clone() };
    change(&mut changed);
    changed
}

fn key(card: &Card) -> EndpointKey {
    EndpointKey { tenant: card.tenant.clone(), endpoint: card.id.clone() }
}

async fn found(registry: &impl Registry, card: &Card) -> CardFound {
    registry.cards(&[key(card)], true).await.unwrap().remove(0)
}

async fn there(registry: &impl Registry, card: &Card) -> Card {
    let CardFound::Card(card) = found(registry, card).await else { panic!("{} is not there", card.id) };
    card.as_ref().clone()
}

async fn of_tenant(registry: &impl Registry, tenant: &str) -> Tenant {
    registry.tenant(tenant).await.unwrap().unwrap()
}

async fn create(registry: &impl Registry, card: &Card) -> Written {
    registry.create(card, MANY).await.unwrap()
}

async fn an_endpoint_lives_and_dies(registry: &impl Registry) {
    let first = card("life", 1, None);
    assert_eq!(registry.tenant("life").await.unwrap(), None);
    assert_eq!(found(registry, &first).await, CardFound::Missing);
    assert_eq!(create(registry, &first).await, Written::Done);
    assert_eq!(create(registry, &first).await, Written::Done, "a request that is repeated");
    assert_eq!(create(registry, &Card { created_at: Millis(1), ..first.clone() }).await, Written::Changed);
    assert_eq!(of_tenant(registry, "life").await, Tenant { revision: 1, endpoints: 1, ..Tenant::default() });
    assert_eq!(there(registry, &first).await, first);
    assert_eq!(registry.cards(&[key(&first)], false).await.unwrap(), [CardFound::Card(first.clone().into())]);

    let second = changed(&first, |card| card.description = "two".into());
    assert_eq!(registry.replace(&first, &second).await.unwrap(), Written::Done);
    assert_eq!(registry.replace(&first, &second).await.unwrap(), Written::Done, "a request that is repeated");
    let late = changed(&first, |card| card.description = "late".into());
    assert_eq!(registry.replace(&first, &late).await.unwrap(), Written::Changed);
    assert_eq!(registry.delete(&first, NOW).await.unwrap(), Written::Changed);
    assert_eq!(there(registry, &first).await, second);

    assert_eq!(registry.delete(&second, NOW).await.unwrap(), Written::Done);
    assert_eq!(found(registry, &first).await, CardFound::Gone);
    assert_eq!(registry.delete(&second, NOW).await.unwrap(), Written::Done, "a request that is repeated");
    let later = NOW.after(Duration::from_secs(1));
    assert_eq!(registry.delete(&second, later).await.unwrap(), Written::Changed);
    assert_eq!(registry.replace(&second, &changed(&second, |_| {})).await.unwrap(), Written::Changed);
    assert_eq!(of_tenant(registry, "life").await, Tenant { revision: 2, endpoints: 0, ..Tenant::default() });
    assert!(registry.list("life", None, 9).await.unwrap().cards.is_empty());
}

async fn a_uid_belongs_to_one_endpoint(registry: &impl Registry) {
    let racers: Vec<Card> = (0..50).map(|n| card("race", n, Some("order"))).collect();
    let written = join_all(racers.iter().map(|card| create(registry, card))).await;
    let won: Vec<&Card> = racers.iter().zip(&written).filter(|(_, w)| **w == Written::Done).map(|(c, _)| c).collect();
    let [winner] = won[..] else { panic!("{written:?}") };
    let lost = written.iter().filter(|written| **written == Written::UidTaken(winner.id.clone())).count();
    assert_eq!(lost, 49, "{written:?}");
    assert_eq!(of_tenant(registry, "race").await, Tenant { revision: 1, endpoints: 1, ..Tenant::default() });
    assert_eq!(registry.list("race", None, 100).await.unwrap().cards.len(), 1);
    assert_eq!(registry.by_uid("race", "order").await.unwrap().as_ref(), Some(winner));
    assert_eq!(registry.by_uid("race2", "order").await.unwrap(), None);

    // It is taken by a change only when it is free, and nothing else is changed then.
    let other = card("race", 77, Some("other"));
    assert_eq!(create(registry, &other).await, Written::Done);
    let wants = changed(&other, |card| {
        card.uid = Some("order".into());
        card.event_types = vec!["a".into()];
    });
    assert_eq!(registry.replace(&other, &wants).await.unwrap(), Written::UidTaken(winner.id.clone()));
    assert_eq!(there(registry, &other).await, other);
    assert_eq!(registry.by_uid("race", "other").await.unwrap().as_ref(), Some(&other));
    assert_eq!(of_tenant(registry, "race").await.revision, 2);

    let freed = changed(winner, |card| card.uid = Some("new".into()));
    assert_eq!(registry.replace(winner, &freed).await.unwrap(), Written::Done);
    assert_eq!(registry.replace(&other, &wants).await.unwrap(), Written::Done);
    assert_eq!(registry.by_uid("race", "order").await.unwrap().as_ref(), Some(&wants));
    assert_eq!(registry.by_uid("race", "other").await.unwrap(), None);
    let without = changed(&wants, |card| card.uid = None);
    assert_eq!(registry.replace(&wants, &without).await.unwrap(), Written::Done);
    assert_eq!(registry.by_uid("race", "order").await.unwrap(), None);
    assert_eq!(registry.delete(&freed, NOW).await.unwrap(), Written::Done);
    assert_eq!(create(registry, &card("race", 78, Some("new"))).await, Written::Done, "a deletion frees it");
}

async fn one_of_many_changes_wins(registry: &impl Registry) {
    let before = card("changes", 1, None);
    create(registry, &before).await;
    let changes: Vec<Card> =
        (0..20).map(|n| changed(&before, |card| card.description = format!("change {n}"))).collect();
    let written = join_all(changes.iter().map(|card| registry.replace(&before, card))).await;
    let won: Vec<usize> = written
        .iter()
        .enumerate()
        .filter(|(_, w)| w.as_ref().is_ok_and(|w| *w == Written::Done))
        .map(|(n, _)| n)
        .collect();
    let [winner] = won[..] else { panic!("{written:?}") };
    assert_eq!(there(registry, &before).await, changes[winner]);
    assert_eq!(written.iter().filter(|w| w.as_ref().is_ok_and(|w| *w == Written::Changed)).count(), 19, "{written:?}");
}

async fn a_tenant_has_so_many_endpoints(registry: &impl Registry) {
    let cards: Vec<Card> = (0..10).map(|n| card("full", n, Some(&format!("uid-{n}")))).collect();
    let written = join_all(cards.iter().map(|card| registry.create(card, 3))).await;
    let written: Vec<Written> = written.into_iter().map(Result::unwrap).collect();
    assert_eq!(written.iter().filter(|w| **w == Written::Done).count(), 3, "{written:?}");
    assert_eq!(written.iter().filter(|w| **w == Written::TooMany).count(), 7, "{written:?}");
    assert_eq!(of_tenant(registry, "full").await, Tenant { revision: 3, endpoints: 3, ..Tenant::default() });
    let listed = registry.list("full", None, 100).await.unwrap().cards;
    assert_eq!(listed.len(), 3);

    // Those that were refused left nothing behind.
    for (card, written) in cards.iter().zip(&written) {
        let uid = card.uid.as_deref().unwrap();
        assert_eq!(registry.by_uid("full", uid).await.unwrap().is_some(), *written == Written::Done);
    }
    assert_eq!(registry.delete(&listed[0], NOW).await.unwrap(), Written::Done);
    let refused = cards.iter().zip(&written).find(|(_, w)| **w == Written::TooMany).unwrap().0;
    assert_eq!(registry.create(refused, 3).await.unwrap(), Written::Done);
    // A uid that is taken is told even where there is no room.
    let taken = card("full", 99, listed[1].uid.as_deref());
    assert_eq!(registry.create(&taken, 3).await.unwrap(), Written::UidTaken(listed[1].id.clone()));
}

fn pattern(text: &str) -> Pattern {
    Filter::read("", serde_json::from_str(text).unwrap()).unwrap().pattern().clone()
}

async fn the_revision_counts_what_matters_to_fan_out(registry: &impl Registry) {
    let mut at = card("revised", 1, Some("u"));
    create(registry, &at).await;
    let mut revision = 1;
    type Change = fn(&mut Card);
    let changes: [(Change, u64); 8] = [
        (|card| card.event_types = vec!["a.*".into()], 1),
        (|card| card.url = "https://b.example/".into(), 0),
        (|card| card.uid = None, 0),
        (|card| card.retry_schedule = RetrySchedule::new(vec![1]).unwrap(), 1),
        (|card| card.event_types = vec![], 1),
        (|card| card.filter = Some(pattern(r#"{"payload":{"é":["\u0061"]}}"#)), 1),
        (|card| card.description = "é".into(), 0),
        (|card| card.filter = None, 1),
    ];
    for (change, raises) in changes {
        let next = changed(&at, change);
        assert_eq!(registry.replace(&at, &next).await.unwrap(), Written::Done);
        at = next;
        revision += raises;
        assert_eq!(
            of_tenant(registry, "revised").await,
            Tenant { revision, endpoints: 1, ..Tenant::default() },
            "{}",
            at.version
        );
    }
}

async fn states_are_counted_with_their_changes(registry: &impl Registry) {
    use EndpointState::{Disabled, Enabled, Paused};
    let by_state = async || {
        let tenant = of_tenant(registry, "states").await;
        let counts: Vec<u64> = EndpointState::iter().map(|state| tenant.in_state(state)).collect();
        (counts, tenant.revision)
    };
    let mut cards = [card("states", 1, None), card("states", 2, Some("u")), card("states", 3, None)];
    for card in &cards {
        create(registry, card).await;
    }
    let steps = [
        (0, Paused, [2, 1, 0]),
        (1, Disabled, [1, 1, 1]),
        (0, Disabled, [1, 0, 2]),
        (1, Paused, [1, 1, 1]),
        (1, Enabled, [2, 0, 1]),
        (0, Enabled, [3, 0, 0]),
        (2, Paused, [2, 1, 0]),
        (1, Disabled, [1, 1, 1]),
    ];
    let mut revision = 3;
    for (at, state, wanted) in steps {
        let next = changed(&cards[at], |card| card.state = state);
        assert_eq!(registry.replace(&cards[at], &next).await.unwrap(), Written::Done);
        // It comes twice, and a change from an older version comes late.
        assert_eq!(registry.replace(&cards[at], &next).await.unwrap(), Written::Done);
        let late = changed(&cards[at], |card| (card.state, card.description) = (Paused, "late".into()));
        assert_eq!(registry.replace(&cards[at], &late).await.unwrap(), Written::Changed);
        cards[at] = next;
        revision += 1;
        assert_eq!(by_state().await, (wanted.to_vec(), revision), "{at} {state:?}");
    }
    // A change of something else, with the state as it is.
    let other = changed(&cards[2], |card| card.event_types = vec!["a".into()]);
    assert_eq!(registry.replace(&cards[2], &other).await.unwrap(), Written::Done);
    assert_eq!(by_state().await, (vec![1, 1, 1], revision + 1));
    assert_eq!(registry.delete(&other, NOW).await.unwrap(), Written::Done);
    assert_eq!(registry.delete(&cards[1], NOW).await.unwrap(), Written::Done);
    assert_eq!(by_state().await, (vec![1, 0, 0], revision + 3));

    let paused = changed(&cards[0], |card| card.state = Paused);
    assert_eq!(registry.replace(&cards[0], &paused).await.unwrap(), Written::Done);
    registry.begin_erasing("states", NOW).await.unwrap();
    registry.erase_part("states", NOW, None, NOW).await.unwrap();
    registry.end_erasing("states", NOW).await.unwrap();
    assert_eq!(by_state().await.0, [0, 0, 0]);
}

async fn lists_are_exact_by_any_page(registry: &impl Registry) {
    // The names of some tenants begin with the name of another.
    for tenant in ["pages", "pages-2", "pages_", "page"] {
        for number in 0..13 {
            create(registry, &card(tenant, number, Some(&format!("uid-{number}")))).await;
        }
    }
    registry.delete(&card("pages", 6, Some("uid-6")), NOW).await.unwrap();
    let wanted: Vec<String> = (0..13).filter(|n| *n != 6).map(|n| format!("ep_{n:022}")).collect();
    for limit in [1, 5, 12, 13, 100] {
        let (mut ids, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = registry.list("pages", after.as_deref(), limit).await.unwrap();
            assert!(page.cards.len() <= limit && page.cards.iter().all(|card| card.tenant == "pages"));
            ids.extend(page.cards.into_iter().map(|card| card.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(ids, wanted, "by {limit}");
    }
    // What was deleted meanwhile is a place in the list all the same.
    let page = registry.list("pages", Some(&wanted[5].replace("05", "06")), 1).await.unwrap();
    assert_eq!(page.cards[0].id, wanted[6]);

    let (mut names, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = registry.tenants(after.as_deref(), 2).await.unwrap();
        assert!(page.tenants.len() <= 2);
        names.extend(page.tenants);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(names.is_sorted());
    let names: BTreeSet<String> = names.into_iter().collect();
    let wanted = ["changes", "full", "life", "page", "pages", "pages-2", "pages_", "race", "revised"];
    assert_eq!(names, wanted.map(str::to_owned).into());
}

async fn many_cards_are_read_in_their_order(registry: &impl Registry) {
    let mut wanted: Vec<EndpointKey> = (0..96).map(|n| key(&card("nobody", n, None))).collect();
    let here = |tenant, n| key(&card(tenant, n, None));
    wanted.insert(7, here("pages", 3));
    wanted.insert(50, here("pages", 6));
    wanted.push(here("pages-2", 6));
    wanted.push(here("life", 3));
    for consistently in [false, true] {
        let found = registry.cards(&wanted, consistently).await.unwrap();
        assert_eq!(found.len(), 100);
        for (n, (key, found)) in wanted.iter().zip(&found).enumerate() {
            match found {
                CardFound::Card(card) => {
                    assert!([7, 98].contains(&n), "{n}");
                    assert_eq!((&card.tenant, &card.id), (&key.tenant, &key.endpoint));
                }
                CardFound::Gone => assert_eq!(n, 50),
                CardFound::Unreadable | CardFound::Erased => panic!("{n} is {found:?}"),
                CardFound::Missing => assert!(![7, 50, 98].contains(&n), "{n}"),
            }
        }
    }
}

async fn a_tenant_is_erased_and_can_be_made_anew(registry: &impl Registry) {
    let at = |ms| Millis(NOW.0 + ms);
    let old: Vec<Card> = (0..25).map(|n| card("gone", n, Some(&format!("u{n}")))).collect();
    for card in &old {
        assert_eq!(create(registry, card).await, Written::Done);
    }
    assert_eq!(create(registry, &card("gone-2", 1, None)).await, Written::Done);
    assert_eq!(registry.delete(&old[3], at(1)).await.unwrap(), Written::Done);
    let names = ["gone".to_owned(), "gone-2".to_owned()];
    let before = registry.revisions(&names).await.unwrap();
    assert!(before.iter().all(|known| known.erased_before.is_none()));

    registry.begin_erasing("gone", at(5)).await.unwrap();
    // An earlier one changes nothing.
    registry.begin_erasing("gone", at(4)).await.unwrap();
    let known = of_tenant(registry, "gone").await;
    assert_eq!((known.erased_before, known.is_erasing), (Some(at(5)), true));
    let revisions = registry.revisions(&names).await.unwrap();
    assert!(revisions[0].revision > before[0].revision && revisions[0].erased_before == Some(at(5)));
    assert_eq!(revisions[1], before[1]);

    // Twice, as a job does.
    for _ in 0..2 {
        let (mut after, mut erased) = (None, Vec::new());
        loop {
            let part = registry.erase_part("gone", at(5), after.as_deref(), at(6)).await.unwrap();
            erased.extend(part.endpoints);
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        erased.sort();
        erased.dedup();
        assert_eq!(erased, old.iter().map(|card| card.id.clone()).collect::<Vec<_>>());
    }
    for card in &old {
        assert_eq!(found(registry, card).await, CardFound::Erased);
    }
    assert_eq!(registry.by_uid("gone", "u7").await.unwrap(), None);
    assert_eq!(registry.list("gone", None, 100).await.unwrap().cards, []);

    registry.end_erasing("gone", at(4)).await.unwrap();
    assert!(of_tenant(registry, "gone").await.is_erasing, "that was another erasing");
    registry.end_erasing("gone", at(5)).await.unwrap();
    registry.end_erasing("gone", at(5)).await.unwrap();
    let known = of_tenant(registry, "gone").await;
    assert_eq!((known.endpoints, known.erased_before, known.is_erasing), (0, Some(at(5)), false));
    let listed = async || registry.tenants(Some("gond"), 100).await.unwrap().tenants;
    assert!(!listed().await.contains(&"gone".to_owned()) && listed().await.contains(&"gone-2".to_owned()));

    let anew = Card { id: format!("ep_{:022}", 99), created_at: at(9), ..card("gone", 99, Some("u7")) };
    assert_eq!(create(registry, &anew).await, Written::Done);
    assert!(listed().await.contains(&"gone".to_owned()));
    assert_eq!((there(registry, &anew).await, of_tenant(registry, "gone").await.endpoints), (anew.clone(), 1));
}

async fn a_resealing_is_noted(registry: &impl Registry) {
    assert_eq!(registry.resealing().await.unwrap(), None);
    for resealed in [1, 2] {
        let noted = Resealing { key_id: "k".into(), tenant: Some("acme".into()), resealed, ..Resealing::default() };
        registry.note_resealing(&noted).await.unwrap();
        assert_eq!(registry.resealing().await.unwrap(), Some(noted));
    }
}

fn definition(description: &str) -> Definition {
    let text = |text: &str| Some(JsonText::of(serde_json::from_str(text).unwrap()));
    let (example, schema) = (text(r#"{ "é" : "\u0061" }"#), text(r#"{ "type":"object" }"#));
    Definition { description: description.into(), example, schema, deprecated: true }
}

async fn an_event_type_is_written_read_and_deleted(registry: &impl Registry) {
    let later = NOW.after(Duration::from_secs(1));
    let paid = |definition: &Definition, updated_at| EventType {
        name: "order.paid".into(),
        definition: definition.clone(),
        created_at: NOW,
        updated_at,
    };
    assert_eq!(registry.event_type("order.paid").await.unwrap(), None);
    assert!(!registry.delete_event_type("order.paid").await.unwrap());
    let (bare, full) = (Definition::default(), definition("é"));
    let wanted = Catalogued { event_type: paid(&bare, NOW), is_new: true };
    assert_eq!(registry.put_event_type("order.paid", &bare, NOW).await.unwrap(), wanted);
    let wanted = Catalogued { event_type: paid(&full, later), is_new: false };
    assert_eq!(registry.put_event_type("order.paid", &full, later).await.unwrap(), wanted);
    assert_eq!(registry.event_type("order.paid").await.unwrap(), Some(paid(&full, later)));
    assert!(registry.delete_event_type("order.paid").await.unwrap());
    assert!(!registry.delete_event_type("order.paid").await.unwrap());
    assert_eq!(registry.event_type("order.paid").await.unwrap(), None);
    let again = registry.put_event_type("order.paid", &bare, later).await.unwrap();
    assert!(again.is_new && again.event_type.created_at == later);
}

async fn event_types_are_listed_by_name_and_read_in_their_order(registry: &impl Registry) {
    let names: Vec<String> = (0..13).map(|n| format!("page.{n:02}")).collect();
    for name in names.iter().rev() {
        registry.put_event_type(name, &definition(name), NOW).await.unwrap();
    }
    for limit in [1, 5, 12, 13, 100] {
        let (mut listed, mut after) = (Vec::new(), Some("order.paid".to_owned()));
        while let Some(name) = after {
            let page = registry.list_event_types(Some(&name), limit).await.unwrap();
            assert!(page.event_types.len() <= limit);
            assert!(page.event_types.iter().all(|one| one.definition.description == one.name));
            listed.extend(page.event_types.into_iter().map(|one| one.name));
            after = page.next;
        }
        assert_eq!(listed, names, "by {limit}");
    }
    assert_eq!(registry.list_event_types(None, 1).await.unwrap().event_types[0].name, "order.paid");
    assert_eq!(registry.list_event_types(Some("page.05x"), 1).await.unwrap().event_types[0].name, "page.06");

    let mut wanted: Vec<String> = (0..120).map(|n| format!("nowhere.{n}")).collect();
    wanted.insert(110, names[3].clone());
    wanted.insert(7, names[9].clone());
    let found = registry.event_types(&wanted).await.unwrap();
    assert_eq!(found.len(), 122);
    for (n, found) in found.iter().enumerate() {
        let name = found.as_ref().map(|found| found.name.as_str());
        assert_eq!(
            name,
            match n {
                7 => Some("page.09"),
                111 => Some("page.03"),
                _ => None,
            }
        );
    }
    assert_eq!(registry.event_types(&[]).await.unwrap(), []);
    // They are nobody's endpoints.
    assert!(registry.tenants(None, 100).await.unwrap().tenants.iter().all(|tenant| !tenant.starts_with("page.")));
}

async fn keeps_the_contract(registry: &impl Registry) {
    an_endpoint_lives_and_dies(registry).await;
    a_uid_belongs_to_one_endpoint(registry).await;
    one_of_many_changes_wins(registry).await;
    a_tenant_has_so_many_endpoints(registry).await;
    the_revision_counts_what_matters_to_fan_out(registry).await;
    states_are_counted_with_their_changes(registry).await;
    lists_are_exact_by_any_page(registry).await;
    many_cards_are_read_in_their_order(registry).await;
    a_tenant_is_erased_and_can_be_made_anew(registry).await;
    a_resealing_is_noted(registry).await;
    an_event_type_is_written_read_and_deleted(registry).await;
    event_types_are_listed_by_name_and_read_in_their_order(registry).await;
}

#[tokio::test]
async fn the_model_keeps_the_contract() {
    let model = RegistryModel::default();
    keeps_the_contract(&model).await;
    model.be_away(true);
    let error = model.cards(&[key(&card("life", 1, None))], true).await.unwrap_err();
    assert_eq!(error.code(), "registry_read");
}

pub(crate) async fn table(stack: &Stack) -> (aws_sdk_dynamodb::Client, String) {
    let client = stack.dynamodb();
    let name = format!("contract-{}", fastrand::u64(..));
    let mut create = client.create_table().table_name(&name).billing_mode(BillingMode::PayPerRequest);
    for (attribute, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        let definition = AttributeDefinition::builder().attribute_name(attribute);
        let key = KeySchemaElement::builder().attribute_name(attribute).key_type(kind);
        create = create
            .attribute_definitions(definition.attribute_type(ScalarAttributeType::S).build().unwrap())
            .key_schema(key.build().unwrap());
    }
    create.send().await.unwrap();
    (client, name)
}

#[tokio::test]
async fn the_real_table_keeps_the_contract() {
    let stack = Stack::running();
    let (_, name) = table(&stack).await;
    keeps_the_contract(&RegistryTable::new(&stack.account(), name)).await;
}

#[tokio::test]
async fn items_are_as_the_design_says_and_others_are_refused() {
    let stack = Stack::running();
    let (client, name) = table(&stack).await;
    let registry = RegistryTable::new(&stack.account(), name.clone());
    let (one, two) = (card("acme", 1, Some("u")), card("acme", 2, None));
    create(&registry, &one).await;
    create(&registry, &two).await;
    registry.delete(&two, NOW).await.unwrap();
    registry.put_event_type("order.paid", &definition("é"), NOW).await.unwrap();
    let items = client.scan().table_name(&name).send().await.unwrap().items.unwrap();
    let keys: BTreeSet<String> =
        items.iter().map(|item| format!("{} {}", item["pk"].as_s().unwrap(), item["sk"].as_s().unwrap())).collect();
    let wanted = [
        "TENANTS acme".to_owned(),
        "TYPES order.paid".to_owned(),
        format!("T#acme E#{}", one.id),
        "T#acme R".to_owned(),
        "T#acme U#u".to_owned(),
        format!("T#acme X#{}", two.id),
    ];
    assert_eq!(keys, wanted.into());
    let tombstone = items.iter().find(|item| item["sk"].as_s().unwrap().starts_with("X#")).unwrap();
    assert_eq!(tombstone["ttl"].as_n().unwrap(), "1706480000", "75 days later");

    let put = async |card: &str, version: &str| {
        let item = [
            ("pk", AttributeValue::S("T#acme".into())),
            ("sk", AttributeValue::S(format!("E#{}", one.id))),
            ("card", AttributeValue::S(card.into())),
            ("version", AttributeValue::N(version.into())),
        ];
        let item = item.map(|(name, value)| (name.to_owned(), value)).into();
        client.put_item().table_name(&name).set_item(Some(item)).send().await.unwrap();
        registry.cards(&[key(&one)], true).await
    };
    let text = |card: &Card| serde_json::to_string(card).unwrap();
    assert!(put(&text(&one), "1").await.is_ok());
    let other = card("acme", 3, None);
    assert_eq!(create(&registry, &other).await, Written::Done);
    // A card of somebody else, or in another place, is nobody's.
    for (card, version) in [
        ("{}".to_owned(), "1"),
        (text(&one), "2"),
        (text(&Card { tenant: "other".into(), ..one.clone() }), "1"),
        (text(&Card { id: two.id.clone(), ..one.clone() }), "1"),
    ] {
        // It says nothing about others.
        assert_eq!(put(&card, version).await.unwrap(), [CardFound::Unreadable]);
        let page = registry.list("acme", None, 9).await.unwrap();
        assert_eq!(page.unreadable, std::slice::from_ref(&one.id));
        assert_eq!(page.cards, std::slice::from_ref(&other));
    }
}

#[tokio::test]
async fn an_event_type_that_cannot_be_read_says_nothing_about_others() {
    let stack = Stack::running();
    let (client, name) = table(&stack).await;
    let registry = RegistryTable::new(&stack.account(), name.clone());
    registry.put_event_type("whole", &definition("é"), NOW).await.unwrap();
    let item = [
        ("pk", AttributeValue::S("TYPES".into())),
        ("sk", AttributeValue::S("broken".into())),
        ("definition", AttributeValue::S("{".into())),
    ];
    let item = item.map(|(name, value)| (name.to_owned(), value)).into();
    client.put_item().table_name(&name).set_item(Some(item)).send().await.unwrap();
    assert_eq!(registry.event_type("broken").await.unwrap_err().code(), "registry_incomplete");
    let found = registry.event_types(&["broken".into(), "whole".into()]).await.unwrap();
    assert!(found[0].is_none() && found[1].is_some());
    let page = registry.list_event_types(None, 1).await.unwrap();
    assert_eq!((page.event_types, page.next.as_deref()), (Vec::new(), Some("broken")), "the list goes on");
    let put = registry.put_event_type("broken", &definition("é"), NOW).await.unwrap();
    assert!(!put.is_new && registry.event_type("broken").await.unwrap() == Some(put.event_type));
}

#[tokio::test]
async fn a_table_that_is_not_there_is_an_error() {
    let registry = RegistryTable::new(&Stack::running().account(), "nowhere".into());
    let one = card("acme", 1, None);
    assert_eq!(registry.create(&one, 1).await.unwrap_err().code(), "registry_write");
    assert_eq!(registry.cards(&[key(&one)], false).await.unwrap_err().code(), "registry_read");
    assert_eq!(registry.event_types(&["a".into()]).await.unwrap_err().code(), "registry_read");
    let put = registry.put_event_type("a", &Definition::default(), NOW).await;
    assert_eq!(put.unwrap_err().code(), "registry_write");
    assert_eq!(registry.delete_event_type("a").await.unwrap_err().code(), "registry_write");
}

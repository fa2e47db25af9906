//! One contract for what the registry's table keeps of tokens, and for its model.

use adapters::aws::registry::RegistryTable;
use adapters::tokens::{KeptLink, KeptToken, MadeBy, Standing, TokenKind, Tokens};
use domain::scope::Scope;
use domain::time::Millis;
use futures_util::future::join_all;
use tests::stack::Stack;
use tests::tokens_model::TokensModel;

const NOW: Millis = Millis(1_700_000_000_000);
const LATER: Millis = Millis(1_700_000_060_000);

fn of(tenant: &str) -> Scope {
    Scope::Tenant(tenant.to_owned())
}

fn token(n: usize, scope: Scope) -> KeptToken {
    KeptToken {
        id: format!("tok_{n:022}"),
        scope,
        kind: TokenKind::Key,
        read_only: n % 2 == 1,
        description: "é".into(),
        epoch: 0,
        made_by: None,
        created_at: NOW,
        expires_at: LATER,
    }
}

fn link(scope: Scope) -> KeptLink {
    KeptLink { scope, read_only: true, epoch: 0, made_by: None, expires_at: LATER, session_ends_at: LATER }
}

async fn ids(tokens: &impl Tokens, scope: Option<&Scope>, limit: usize) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = tokens.list(scope, after.as_deref(), limit, NOW).await.unwrap();
        assert!(page.tokens.len() <= limit);
        found.extend(page.tokens.into_iter().map(|token| token.id));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

async fn a_token_is_listed_until_it_ends(tokens: &impl Tokens) {
    let (a, ab) = (of("list"), of("list-b"));
    for (n, scope) in [(1, &a), (2, &ab), (3, &a), (4, &a)] {
        tokens.keep(&token(n, scope.clone()), None).await.unwrap();
        // An answer may be lost, and the call repeated.
        tokens.keep(&token(n, scope.clone()), None).await.unwrap();
    }
    let named = |numbers: &[usize]| numbers.iter().map(|n| format!("tok_{n:022}")).collect::<Vec<_>>();
    for limit in [1, 2, 9] {
        assert_eq!(ids(tokens, Some(&a), limit).await, named(&[1, 3, 4]), "{limit}");
    }
    assert_eq!(ids(tokens, Some(&ab), 9).await, named(&[2]));
    let all = ids(tokens, None, 2).await;
    assert!(named(&[1, 2, 3, 4]).iter().all(|id| all.contains(id)), "{all:?}");
    let page = tokens.list(Some(&a), None, 9, NOW).await.unwrap();
    assert_eq!(page.tokens[0], token(1, a.clone()));
    assert!(tokens.list(Some(&a), None, 9, LATER).await.unwrap().tokens.is_empty(), "they have expired");
}

async fn a_revoked_token_is_known_as_such(tokens: &impl Tokens) {
    let (scope, other) = (of("revoke"), of("other"));
    let one = token(10, scope.clone());
    tokens.keep(&one, None).await.unwrap();
    assert_eq!(tokens.standing(&one.id, &scope).await.unwrap(), Standing { is_known: true, ..Standing::default() });
    assert!(!tokens.revoke(&one.id, &other, NOW).await.unwrap(), "it is of another scope");
    assert!(!tokens.revoke(&one.id, &scope, LATER).await.unwrap(), "it has expired");
    assert!(!tokens.revoke("tok_nobody", &Scope::Operator, NOW).await.unwrap());
    assert!(!tokens.standing(&one.id, &scope).await.unwrap().is_revoked);
    assert!(tokens.revoke(&one.id, &Scope::Operator, NOW).await.unwrap());
    assert!(!tokens.revoke(&one.id, &scope, NOW).await.unwrap(), "there is none any more");
    assert!(tokens.standing(&one.id, &scope).await.unwrap().is_revoked);
    assert!(ids(tokens, Some(&scope), 9).await.is_empty());
}

async fn all_tokens_of_a_scope_end_together(tokens: &impl Tokens) {
    let (scope, other) = (of("epoch"), of("epoch-2"));
    assert_eq!(tokens.epoch(&scope).await.unwrap(), 0);
    tokens.keep(&token(20, scope.clone()), None).await.unwrap();
    tokens.keep(&token(21, other.clone()), None).await.unwrap();
    assert_eq!(tokens.end_all(&scope).await.unwrap(), 1);
    assert_eq!(tokens.end_all(&scope).await.unwrap(), 2);
    assert_eq!(tokens.epoch(&scope).await.unwrap(), 2);
    assert_eq!(tokens.standing("tok_x", &scope).await.unwrap(), Standing { epoch: 2, ..Standing::default() });
    assert_eq!(tokens.epoch(&other).await.unwrap(), 0);
    assert!(ids(tokens, Some(&scope), 9).await.is_empty());
    assert_eq!(ids(tokens, Some(&other), 9).await.len(), 1);
    tokens.keep(&KeptToken { epoch: 2, ..token(22, scope.clone()) }, None).await.unwrap();
    assert_eq!(ids(tokens, Some(&scope), 9).await.len(), 1, "a new one is good");
}

async fn a_link_is_used_once(tokens: &(impl Tokens + Clone + 'static)) {
    let scope = of("link");
    let given = link(scope.clone());
    assert!(tokens.keep_link("hash", &given).await.unwrap());
    assert_eq!(tokens.link("hash", NOW).await.unwrap(), Some(given.clone()));
    assert_eq!(tokens.link("hash", NOW).await.unwrap(), Some(given.clone()), "looking does not use it");
    assert_eq!(tokens.link("hash", LATER).await.unwrap(), None, "it has expired");
    assert_eq!(tokens.link("another", NOW).await.unwrap(), None);
    let longer = KeptLink { expires_at: Millis(LATER.0 + 1), ..given.clone() };
    assert!(!tokens.spend("hash", &longer, &token(30, scope.clone())).await.unwrap(), "it is another link");
    let sessions: Vec<KeptToken> = (31..39).map(|n| token(n, scope.clone())).collect();
    let spent = join_all(sessions.iter().map(|session| tokens.spend("hash", &given, session))).await;
    let winners: Vec<usize> = (0..sessions.len()).filter(|n| *spent[*n].as_ref().unwrap()).collect();
    assert_eq!(winners.len(), 1, "{spent:?}");
    let winner = &sessions[winners[0]];
    assert_eq!(ids(tokens, Some(&scope), 9).await, std::slice::from_ref(&winner.id));
    assert_eq!(tokens.link("hash", NOW).await.unwrap(), None);
    assert!(tokens.spend("hash", &given, winner).await.unwrap(), "its answer was lost, and the call repeated");
}

async fn what_has_ended_makes_nothing(tokens: &impl Tokens) {
    let scope = of("maker");
    let (good, revoked) = (token(40, scope.clone()), token(41, scope.clone()));
    for maker in [&good, &revoked] {
        tokens.keep(maker, None).await.unwrap();
    }
    let by = |maker: &str, epoch| MadeBy { id: maker.to_owned(), scope: scope.clone(), epoch };
    let link_by = |maker: MadeBy| KeptLink { made_by: Some(maker), ..link(scope.clone()) };
    let (good_id, revoked_id) = ("tok_0000000000000000000040", "tok_0000000000000000000041");
    let made = token(42, of("maker-2"));
    assert!(tokens.revoke(revoked_id, &scope, NOW).await.unwrap());
    for maker in [by(revoked_id, 0), by("tok_nobody", 0)] {
        assert!(!tokens.keep(&made, Some(&maker)).await.unwrap());
        assert!(!tokens.keep_link("by-maker", &link_by(maker)).await.unwrap());
    }
    assert!(
        tokens.link("by-maker", NOW).await.unwrap().is_none() && ids(tokens, Some(&of("maker-2")), 9).await.is_empty()
    );
    assert!(tokens.keep(&made, Some(&by(good_id, 0))).await.unwrap());
    let made_link = link_by(by(good_id, 0));
    assert!(tokens.keep_link("by-maker", &made_link).await.unwrap());
    tokens.end_all(&scope).await.unwrap();
    assert!(
        !tokens.spend("by-maker", &made_link, &token(44, scope.clone())).await.unwrap(),
        "its maker has ended since"
    );
    assert!(
        !tokens.keep(&token(43, of("maker-2")), Some(&by(good_id, 0))).await.unwrap(),
        "all of its scope have ended"
    );
    assert_eq!(ids(tokens, Some(&of("maker-2")), 9).await, [made.id]);
}

async fn check(tokens: &(impl Tokens + Clone + 'static)) {
    a_token_is_listed_until_it_ends(tokens).await;
    a_revoked_token_is_known_as_such(tokens).await;
    all_tokens_of_a_scope_end_together(tokens).await;
    a_link_is_used_once(tokens).await;
    what_has_ended_makes_nothing(tokens).await;
}

#[tokio::test]
async fn the_model_keeps_tokens_as_the_table_does() {
    check(&TokensModel::default()).await;
}

#[tokio::test]
async fn the_table_keeps_tokens_as_the_model_does() {
    let stack = Stack::running();
    let (client, name) = crate::registry_contract::table(&stack).await;
    let table = RegistryTable::new(&stack.account(), name.clone());
    check(&table).await;
    // No text of a token is kept, and everything but epochs goes by itself.
    let items = client.scan().table_name(&name).send().await.unwrap().items.unwrap();
    assert!(items.len() > 8);
    for item in items {
        let sk = item["sk"].as_s().unwrap();
        assert!(sk.starts_with("E#") || item.contains_key("ttl"), "{item:?}");
        assert!(!format!("{item:?}").contains("sht_"));
    }
}

#[tokio::test]
async fn the_tokens_of_a_tenant_end_when_it_is_erased() {
    use adapters::registry::Registry as _;
    let stack = Stack::running();
    let (_, name) = crate::registry_contract::table(&stack).await;
    let table = RegistryTable::new(&stack.account(), name);
    table.keep(&token(1, of("gone")), None).await.unwrap();
    table.begin_erasing("gone", NOW).await.unwrap();
    assert_eq!(table.epoch(&of("gone")).await.unwrap(), 1);
    assert!(ids(&table, Some(&of("gone")), 9).await.is_empty());
}

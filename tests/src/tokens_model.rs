//! A model of what is kept of tokens, in memory. It passes the same contract test as the real
//! one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use adapters::registry::RegistryError;
use adapters::tokens::{KeptLink, KeptToken, MadeBy, Standing, Standings, TokenPage, Tokens};
use async_trait::async_trait;
use domain::scope::Scope;
use domain::time::Millis;

#[derive(Debug, Default)]
struct Items {
    /// By where they stand in a list.
    tokens: BTreeMap<String, KeptToken>,
    revoked: BTreeMap<String, Millis>,
    epochs: BTreeMap<Scope, u64>,
    links: BTreeMap<String, KeptLink>,
}

/// The tokens.
#[derive(Clone, Debug, Default)]
pub struct TokensModel {
    items: Arc<Mutex<Items>>,
    away: Arc<Mutex<bool>>,
    reads: Arc<AtomicUsize>,
}

fn place(token: &KeptToken) -> String {
    format!("{}#{}", token.scope, token.id)
}

impl Items {
    fn epoch(&self, scope: &Scope) -> u64 {
        self.epochs.get(scope).copied().unwrap_or_default()
    }

    fn standing(&self, id: &str, scope: &Scope) -> Standing {
        let is_revoked = self.revoked.contains_key(id);
        let is_known = is_revoked || self.tokens.values().any(|token| token.id == id);
        Standing { is_known, is_revoked, epoch: self.epoch(scope) }
    }

    fn lets_make(&self, maker: Option<&MadeBy>) -> bool {
        maker.is_none_or(|maker| self.standing(&maker.id, &maker.scope).is_good(maker.epoch))
    }
}

impl TokensModel {
    /// From now on it fails, or works again.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn be_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    /// How often the gate read something.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    fn items(&self) -> Result<MutexGuard<'_, Items>, RegistryError> {
        if *self.away.lock().unwrap() {
            return Err(RegistryError::Read("the model is away".into()));
        }
        Ok(self.items.lock().unwrap())
    }
}

#[async_trait]
impl Standings for TokensModel {
    async fn standing(&self, id: &str, scope: &Scope) -> Result<Standing, RegistryError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.items()?.standing(id, scope))
    }
}

#[async_trait]
impl Tokens for TokensModel {
    async fn epoch(&self, scope: &Scope) -> Result<u64, RegistryError> {
        Ok(self.items()?.epoch(scope))
    }

    async fn end_all(&self, scope: &Scope) -> Result<u64, RegistryError> {
        let mut items = self.items()?;
        let epoch = items.epochs.entry(scope.clone()).or_default();
        *epoch += 1;
        Ok(*epoch)
    }

    async fn keep(&self, token: &KeptToken, maker: Option<&MadeBy>) -> Result<bool, RegistryError> {
        let mut items = self.items()?;
        let kept = items.lets_make(maker);
        if kept {
            items.tokens.insert(place(token), token.clone());
        }
        Ok(kept)
    }

    async fn revoke(&self, id: &str, within: &Scope, now: Millis) -> Result<bool, RegistryError> {
        let mut items = self.items()?;
        let Some(token) = items.tokens.values().find(|token| token.id == id) else { return Ok(false) };
        if !within.covers(&token.scope) || token.expires_at <= now {
            return Ok(false);
        }
        let place = place(token);
        items.tokens.remove(&place);
        items.revoked.insert(id.to_owned(), now);
        Ok(true)
    }

    async fn list(
        &self,
        scope: Option<&Scope>,
        after: Option<&str>,
        limit: usize,
        now: Millis,
    ) -> Result<TokenPage, RegistryError> {
        let items = self.items()?;
        let here = items.tokens.iter().filter(|(_, token)| scope.is_none_or(|scope| *scope == token.scope));
        let mut here: Vec<_> = here.filter(|(place, _)| after.is_none_or(|after| place.as_str() > after)).collect();
        let goes_on = here.len() > limit;
        here.truncate(limit);
        let next = here.last().filter(|_| goes_on).map(|(place, _)| (*place).clone());
        let is_good = |token: &KeptToken| token.expires_at > now && token.epoch >= items.epoch(&token.scope);
        let tokens = here.into_iter().map(|(_, token)| token.clone()).filter(is_good).collect();
        Ok(TokenPage { tokens, next })
    }

    async fn keep_link(&self, code_hash: &str, link: &KeptLink) -> Result<bool, RegistryError> {
        let mut items = self.items()?;
        let kept = items.lets_make(link.made_by.as_ref());
        if kept {
            items.links.insert(code_hash.to_owned(), link.clone());
        }
        Ok(kept)
    }

    async fn link(&self, code_hash: &str, now: Millis) -> Result<Option<KeptLink>, RegistryError> {
        Ok(self.items()?.links.get(code_hash).filter(|link| link.expires_at > now).cloned())
    }

    async fn spend(&self, code_hash: &str, link: &KeptLink, session: &KeptToken) -> Result<bool, RegistryError> {
        let mut items = self.items()?;
        if items.links.get(code_hash).map(|there| there.expires_at) != Some(link.expires_at) {
            return Ok(items.tokens.contains_key(&place(session)));
        }
        if !items.lets_make(link.made_by.as_ref()) {
            return Ok(false);
        }
        items.links.remove(code_hash);
        items.tokens.insert(place(session), session.clone());
        Ok(true)
    }
}

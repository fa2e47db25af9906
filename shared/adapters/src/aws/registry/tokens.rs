//! Tokens, what ended before its time, and links to the console. Tokens are in one partition of
//! the registry's table, which is all that the gate may read. Each link is in one of its own.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{ReturnValue, TransactWriteItem};
use domain::scope::Scope;
use domain::time::Millis;

use super::RegistryTable;
use super::items::{self, EPOCH, EXPIRES_AT, REVOKED_AT, SCOPE, TOKEN_PREFIX, TOKENS};
use super::table::Table;
use super::transaction::{Condition, Ended, Step};
use crate::BoxError;
use crate::aws::attributes::{Item, number, number_in, text_in};
use crate::registry::{MAX_CARDS, RegistryError};
use crate::telemetry::chain;
use crate::tokens::{KeptLink, KeptToken, MadeBy, Standing, Standings, TokenPage, Tokens};

fn unwritten(error: impl Into<BoxError>) -> RegistryError {
    RegistryError::Write(error.into())
}

/// The place of an item in the list.
fn place(item: &Item) -> String {
    text_in(item, items::SK).strip_prefix(TOKEN_PREFIX).unwrap_or_default().to_owned()
}

/// The token of an item, or a line in the log. Others in the same answer are read all the same.
fn readable(item: &Item) -> Option<KeptToken> {
    let read = items::token_in(item);
    read.inspect_err(|error| tracing::error!(code = error.code(), error = %chain(error), "a token cannot be read")).ok()
}

impl Table {
    /// Raises the epoch of a scope.
    pub(super) async fn end_tokens(&self, scope: &Scope) -> Result<u64, RegistryError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(items::epoch_key(scope)))
            .update_expression("ADD #epoch :one")
            .expression_attribute_names("#epoch", EPOCH)
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::UpdatedNew);
        let answer = update.send().await.map_err(unwritten)?;
        let epoch = answer.attributes().and_then(|item| number_in(item, EPOCH));
        epoch.ok_or(RegistryError::Incomplete(None))
    }

    /// What is written of a new token: itself, and the place that tells of its revocation.
    fn token_steps(&self, token: &KeptToken) -> Result<Vec<(Step, TransactWriteItem)>, RegistryError> {
        Ok(vec![
            (Step::Token, self.put(items::of_token(token)?, Condition::None)?),
            (Step::Revocation, self.put(items::of_revocation(token), Condition::None)?),
        ])
    }

    /// What must hold of the token that asks.
    fn maker_steps(&self, maker: Option<&MadeBy>) -> Result<Vec<(Step, TransactWriteItem)>, RegistryError> {
        let Some(MadeBy { id, scope, epoch }) = maker else { return Ok(Vec::new()) };
        Ok(vec![
            (Step::Maker, self.check(items::revocation_key(id), Condition::NotRevoked)?),
            (Step::MakersEpoch, self.check(items::epoch_key(scope), Condition::EpochAtMost(*epoch))?),
        ])
    }
}

#[async_trait]
impl Standings for RegistryTable {
    async fn standing(&self, id: &str, scope: &Scope) -> Result<Standing, RegistryError> {
        let keys = [items::revocation_key(id), items::epoch_key(scope)];
        let found = self.table.batch(keys.to_vec(), true).await?;
        let [revocation, epoch] = keys.each_ref().map(|key| found.get(&items::name_of(key)));
        Ok(Standing {
            is_known: revocation.is_some(),
            is_revoked: revocation.is_some_and(|item| item.contains_key(REVOKED_AT)),
            epoch: epoch.and_then(|item| number_in(item, EPOCH)).unwrap_or_default(),
        })
    }
}

#[async_trait]
impl Tokens for RegistryTable {
    async fn epoch(&self, scope: &Scope) -> Result<u64, RegistryError> {
        let item = self.table.get(items::epoch_key(scope)).await?;
        Ok(item.and_then(|item| number_in(&item, EPOCH)).unwrap_or_default())
    }

    async fn end_all(&self, scope: &Scope) -> Result<u64, RegistryError> {
        self.table.end_tokens(scope).await
    }

    async fn keep(&self, token: &KeptToken, maker: Option<&MadeBy>) -> Result<bool, RegistryError> {
        let mut steps = self.table.token_steps(token)?;
        steps.extend(self.table.maker_steps(maker)?);
        Ok(matches!(self.table.transact(steps).await?, Ended::Done))
    }

    async fn revoke(&self, id: &str, within: &Scope, now: Millis) -> Result<bool, RegistryError> {
        let Some(known) = self.table.get(items::revocation_key(id)).await? else { return Ok(false) };
        let ends = number_in(&known, EXPIRES_AT).unwrap_or_default();
        let Ok(scope) = text_in(&known, SCOPE).parse::<Scope>() else { return Err(RegistryError::Incomplete(None)) };
        if !within.covers(&scope) || ends <= now.0 || known.contains_key(REVOKED_AT) {
            return Ok(false);
        }
        let mut revoked = known;
        revoked.insert(REVOKED_AT.to_owned(), number(now.0));
        let steps = vec![
            (Step::Revocation, self.table.put(revoked, Condition::None)?),
            (Step::Token, self.table.delete_item(items::token_key(&scope, id), Condition::None)?),
        ];
        self.table.transact(steps).await.map(|_| true)
    }

    async fn list(
        &self,
        scope: Option<&Scope>,
        after: Option<&str>,
        limit: usize,
        now: Millis,
    ) -> Result<TokenPage, RegistryError> {
        let prefix = scope.map_or(TOKEN_PREFIX.to_owned(), items::tokens_of);
        let start = after.map(|place| items::key_in(TOKENS, &format!("{TOKEN_PREFIX}{place}")));
        let answer = self.table.page(TOKENS, &prefix, start, limit).await?;
        let here = || answer.items().iter().take(limit);
        let goes_on = answer.last_evaluated_key().is_some() || answer.items().len() > limit;
        let next = here().next_back().filter(|_| goes_on).map(place);
        let found: Vec<KeptToken> = here().filter_map(readable).filter(|token| token.expires_at > now).collect();
        let mut scopes: Vec<&Scope> = found.iter().map(|token| &token.scope).collect();
        scopes.dedup();
        let mut epochs = HashMap::new();
        for part in scopes.chunks(MAX_CARDS) {
            epochs.extend(self.table.batch(part.iter().map(|scope| items::epoch_key(scope)).collect(), true).await?);
        }
        let epoch = |scope: &Scope| {
            let item = epochs.get(&items::name_of(&items::epoch_key(scope)));
            item.and_then(|item| number_in(item, EPOCH)).unwrap_or_default()
        };
        let tokens = found.iter().filter(|token| token.epoch >= epoch(&token.scope)).cloned().collect();
        Ok(TokenPage { tokens, next })
    }

    async fn keep_link(&self, code_hash: &str, link: &KeptLink) -> Result<bool, RegistryError> {
        let mut steps = vec![(Step::Link, self.table.put(items::of_link(code_hash, link)?, Condition::None)?)];
        steps.extend(self.table.maker_steps(link.made_by.as_ref())?);
        Ok(matches!(self.table.transact(steps).await?, Ended::Done))
    }

    async fn link(&self, code_hash: &str, now: Millis) -> Result<Option<KeptLink>, RegistryError> {
        let Some(item) = self.table.get(items::link_key(code_hash)).await? else { return Ok(None) };
        let link = items::link_in(&item)?;
        Ok((link.expires_at > now).then_some(link))
    }

    async fn spend(&self, code_hash: &str, link: &KeptLink, session: &KeptToken) -> Result<bool, RegistryError> {
        let same = Condition::EndsAt(link.expires_at.0);
        let mut steps = vec![(Step::Link, self.table.delete_item(items::link_key(code_hash), same)?)];
        steps.extend(self.table.token_steps(session)?);
        steps.extend(self.table.maker_steps(link.made_by.as_ref())?);
        match self.table.transact(steps).await? {
            Ended::Done => Ok(true),
            // The answer to this call may have been lost: then its session is there.
            Ended::Refused(_) => Ok(self.table.get(items::token_key(&session.scope, &session.id)).await?.is_some()),
        }
    }
}

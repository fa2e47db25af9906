//! `/tokens`: tokens are made, listed, revoked and ended together. Callers with a token of their
//! own see and make those of their scope.

use adapters::http::answer::{self, Problem};
use adapters::http::body;
use adapters::http::entry::Bearer;
use adapters::http::query::QueryString;
use adapters::random;
use adapters::telemetry::chain;
use adapters::tokens::{KeptToken, MadeBy, TokenKind};
use domain::cursor;
use domain::scope::Scope;
use domain::token::{TOKEN_ID_RANDOM, Token, is_token_id};
use domain::token_request::{self, Maker};
use lambda_http::Body;
use lambda_http::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::Endpoints;
use crate::problems::away;
use crate::read::{CURSOR, MAX_PAGE, PAGE};

/// The token of whoever asks, as the limits of what it may make.
pub(crate) fn maker(bearer: Option<&Bearer>) -> Option<Maker> {
    bearer.map(|bearer| Maker { scope: bearer.scope.clone(), expires_at: bearer.expires_at })
}

/// The same, as what must hold when it is kept.
pub(crate) fn made_by(bearer: Option<&Bearer>) -> Option<MadeBy> {
    bearer.map(|bearer| MadeBy { id: bearer.token.clone(), scope: bearer.scope.clone(), epoch: bearer.epoch })
}

/// The id of the token of whoever asks, for what is kept and for the log.
pub(crate) fn by(bearer: Option<&Bearer>) -> Option<&str> {
    bearer.map(|bearer| bearer.token.as_str())
}

/// The scopes that whoever asks may act on.
fn within(bearer: Option<&Bearer>) -> &Scope {
    bearer.map_or(&Scope::Operator, |bearer| &bearer.scope)
}

impl Endpoints {
    /// A new id of a token.
    pub(crate) fn token_id() -> Result<String, Problem> {
        let random = random::alphanumeric(TOKEN_ID_RANDOM).map_err(|error| unmade(&error))?;
        Ok(format!("tok_{random}"))
    }

    /// The text of a token, for its holder alone.
    pub(crate) fn token_text(&self, kept: &KeptToken) -> Result<String, Problem> {
        let KeptToken { id, scope, read_only, epoch, expires_at, .. } = kept.clone();
        Token { id, scope, read_only, epoch, expires_at }.to_text(&self.keyring.keys()).map_err(|error| unmade(&error))
    }

    /// What a new token of this scope has for its epoch. It ends with the token that asks, if that
    /// has the same scope.
    pub(crate) async fn epoch_for(&self, scope: &Scope, bearer: Option<&Bearer>) -> Result<u64, Problem> {
        match bearer.filter(|bearer| bearer.scope == *scope) {
            Some(bearer) => Ok(bearer.epoch),
            None => self.tokens.epoch(scope).await.map_err(away),
        }
    }

    /// Refuses tokens and links of a tenant that is being erased.
    pub(crate) async fn refuse_erased(&self, scope: &Scope) -> Result<(), Problem> {
        match scope.tenant() {
            Some(tenant) => self.refuse_erasing(tenant).await,
            None => Ok(()),
        }
    }

    /// Makes a token.
    pub(crate) async fn make_token(
        &self,
        bearer: Option<&Bearer>,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let now = self.clock.now();
        let asked = token_request::token(body::json(body.as_ref())?, maker(bearer).as_ref(), now);
        let asked = asked.map_err(Problem::invalid)?;
        let epoch = self.epoch_for(&asked.scope, bearer).await?;
        self.refuse_erased(&asked.scope).await?;
        self.keyring.refresh().await;
        let kept = KeptToken {
            id: Self::token_id()?,
            epoch,
            made_by: by(bearer).map(str::to_owned),
            scope: asked.scope,
            kind: TokenKind::Key,
            read_only: asked.read_only,
            description: asked.description,
            created_at: now,
            expires_at: asked.expires_at,
        };
        let text = self.token_text(&kept)?;
        if !self.tokens.keep(&kept, made_by(bearer).as_ref()).await.map_err(away)? {
            return Err(ended());
        }
        tracing::warn!(audit = true, token = %kept.id, scope = %kept.scope, read_only = kept.read_only,
            by = by(bearer), correlation_id, "a token was made");
        Ok(made(&kept, &text, correlation_id))
    }

    /// A page of the tokens that are good now.
    pub(crate) async fn list_tokens(
        &self,
        bearer: Option<&Bearer>,
        query: &str,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let mut query = QueryString::of(query);
        let wanted = query.optional(
            "scope",
            |text| text.parse::<Scope>().ok().filter(|scope| within(bearer).covers(scope)),
            "must be operator, or tenant: and the name of a tenant; for a token its own scope or a narrower one",
        );
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        // A tenant's token sees those of its tenant, whatever it asks for.
        let scope = wanted.or_else(|| bearer.map(|bearer| bearer.scope.clone()).filter(|own| *own != Scope::Operator));
        let place = scope.as_ref().map_or("all".to_owned(), Scope::to_string);
        let bound = ["tokens", place.as_str()];
        let is_place = |place: &String| {
            let parts = place.split_once('#').and_then(|(of, id)| Some((of.parse::<Scope>().ok()?, id)));
            parts.is_some_and(|(of, id)| scope.as_ref().is_none_or(|scope| *scope == of) && is_token_id(id))
        };
        let after = query.optional("cursor", |text| cursor::read(&bound, text).filter(is_place), CURSOR);
        query.finish()?;
        let page = self.tokens.list(scope.as_ref(), after.as_deref(), limit, self.clock.now()).await.map_err(away)?;
        let tokens: Vec<Value> = page.tokens.iter().map(view).collect();
        let next = page.next.map(|after| cursor::after(&bound, &after));
        Ok(answer::json(StatusCode::OK, &json!({ "tokens": tokens, "next_cursor": next }), correlation_id))
    }

    /// Revokes a token.
    pub(crate) async fn revoke_token(
        &self,
        bearer: Option<&Bearer>,
        id: &str,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        if !self.tokens.revoke(id, within(bearer), self.clock.now()).await.map_err(away)? {
            return Err(Problem::not_found("There is no such token, or it has ended."));
        }
        tracing::warn!(audit = true, token = id, by = by(bearer), correlation_id, "a token was revoked");
        Ok(answer::no_content(correlation_id))
    }

    /// Ends all tokens of a scope, and the links to its sessions.
    pub(crate) async fn end_tokens(
        &self,
        bearer: Option<&Bearer>,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let scope = token_request::epoch(body::json(body.as_ref())?, maker(bearer).as_ref());
        let scope = scope.map_err(Problem::invalid)?;
        let epoch = self.tokens.end_all(&scope).await.map_err(away)?;
        tracing::warn!(audit = true, %scope, epoch, by = by(bearer), correlation_id,
            "all tokens of a scope were ended");
        Ok(answer::json(StatusCode::OK, &json!({ "scope": scope, "epoch": epoch }), correlation_id))
    }
}

/// The token that asks has ended, and the gate did not know it yet.
pub(crate) fn ended() -> Problem {
    Problem::forbidden("The token that asks has ended.")
}

/// A token as answers show it, without its text.
fn view(kept: &KeptToken) -> Value {
    let mut view = json!({
        "id": kept.id,
        "scope": kept.scope,
        "kind": kept.kind,
        "read_only": kept.read_only,
        "description": kept.description,
        "created_at": kept.created_at.to_string(),
        "expires_at": kept.expires_at.to_string(),
    });
    if let Some(maker) = &kept.made_by {
        view["made_by"] = json!(maker);
    }
    view
}

/// The answer to whoever asked for a token: the only one that ever shows its text.
pub(crate) fn made(kept: &KeptToken, text: &str, correlation_id: &str) -> Response<String> {
    let mut shown = view(kept);
    shown["token"] = json!(text);
    answer::json(StatusCode::CREATED, &shown, correlation_id)
}

pub(crate) fn unmade(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error = %chain(error), "a token cannot be made");
    Problem::unavailable("A token cannot be made now.")
}

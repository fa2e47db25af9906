//! What is kept of tokens and of links to the console: who has which, and what ended before its
//! time. A token itself is never kept.

use async_trait::async_trait;
use domain::scope::Scope;
use domain::time::Millis;
use serde::{Deserialize, Serialize};

use crate::registry::RegistryError;

/// What a token was made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A key, for programs.
    Key,
    /// A session of the console, opened with a link.
    Session,
}

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptToken {
    /// Its id.
    pub id: String,
    /// What it may act on.
    pub scope: Scope,
    /// What it was made as.
    pub kind: TokenKind,
    /// Whether it only reads.
    pub read_only: bool,
    /// What it is for.
    pub description: String,
    /// The epoch of its scope.
    pub epoch: u64,
    /// The token that asked for it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// When it was made.
    pub created_at: Millis,
    /// When it ends.
    pub expires_at: Millis,
}

/// What is kept of a link to the console until it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLink {
    /// What its session may act on.
    pub scope: Scope,
    /// Whether its session only reads.
    pub read_only: bool,
    /// The epoch of its scope when it was made.
    pub epoch: u64,
    /// The token that asked for it, if one did. The link can be used as long as that is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<MadeBy>,
    /// Until when it can be used.
    pub expires_at: Millis,
    /// When its session ends.
    pub session_ends_at: Millis,
}

/// What decides whether a token is still good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it was made here, as far as the registry knows.
    pub is_known: bool,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// Tokens of its scope with an older epoch have ended.
    pub epoch: u64,
}

impl Standing {
    /// Whether a token of this epoch is still good.
    pub fn is_good(self, epoch: u64) -> bool {
        self.is_known && !self.is_revoked && epoch >= self.epoch
    }
}

/// The token of whoever asks for another one, or for a link. What it asks for is kept only if it
/// is good at that moment: the gate may know only later that it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    /// Its id.
    pub id: String,
    /// Its scope.
    pub scope: Scope,
    /// Its epoch.
    pub epoch: u64,
}

/// A part of the list of tokens.
#[derive(Clone, Debug, Default)]
pub struct TokenPage {
    /// What is kept of them. Those that ended are not among them.
    pub tokens: Vec<KeptToken>,
    /// The place after which the list goes on, if it does: a scope, `#` and a token's id.
    pub next: Option<String>,
}

/// What the gate reads.
#[async_trait]
pub trait Standings: Send + Sync {
    /// How this token of this scope stands now.
    async fn standing(&self, id: &str, scope: &Scope) -> Result<Standing, RegistryError>;
}

/// The tokens and links of a stack. Requests are repeated, so what was done before is done.
#[async_trait]
pub trait Tokens: Standings {
    /// The epoch of a scope.
    async fn epoch(&self, scope: &Scope) -> Result<u64, RegistryError>;

    /// Ends all tokens and links of a scope. Gives its new epoch.
    async fn end_all(&self, scope: &Scope) -> Result<u64, RegistryError>;

    /// Keeps a new token, unless the one that asked for it has ended. Says whether it is kept.
    async fn keep(&self, token: &KeptToken, maker: Option<&MadeBy>) -> Result<bool, RegistryError>;

    /// Revokes a token, if it is one of the scopes that `within` covers. Says whether there was
    /// such a token that had not ended.
    async fn revoke(&self, id: &str, within: &Scope, now: Millis) -> Result<bool, RegistryError>;

    /// Up to `limit` tokens of a scope, or of all, that are good now, after a place.
    async fn list(
        &self,
        scope: Option<&Scope>,
        after: Option<&str>,
        limit: usize,
        now: Millis,
    ) -> Result<TokenPage, RegistryError>;

    /// Keeps a link under the hash of its code, unless the token that asked for it has ended. Says
    /// whether it is kept.
    async fn keep_link(&self, code_hash: &str, link: &KeptLink) -> Result<bool, RegistryError>;

    /// The link of a code that was not used, if it can be used now.
    async fn link(&self, code_hash: &str, now: Millis) -> Result<Option<KeptLink>, RegistryError>;

    /// Uses up a link, and keeps the token of its session: both or neither, and neither if the
    /// token that asked for the link has ended. Says whether this call was the one that used it.
    async fn spend(&self, code_hash: &str, link: &KeptLink, session: &KeptToken) -> Result<bool, RegistryError>;
}

//! The stack's master keys in Secrets Manager: new ones come, and at the end the old ones go.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::seal::MasterKeys;

use crate::stack::Stack;
use crate::torture::caller::Caller;
use crate::torture::tenants::{CROWD, Tenant};
use crate::torture::{Field, Weather, deliveries};

/// The beginning of the ARN of a secret of the local AWS. It finds a secret without the random
/// end of its ARN, as AWS does.
const ARN: &str = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:";
const MASTER: &str = "torture-master-keys";
const AUTHORITY: &str = "torture-authority";
/// How long the last events may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Parameters of a stack that reads these secrets.
pub(crate) fn parameters() -> Vec<String> {
    vec![
        "MasterKeys=".to_owned(),
        format!("MasterKeysSecretArn={ARN}{MASTER}"),
        format!("ReceiverCaSecretArn={ARN}{AUTHORITY}"),
    ]
}

/// Stores the secrets before any function reads them. Gives the first master key.
pub(crate) async fn store(stack: &Stack, authority: &str) -> String {
    let key = fresh();
    for (name, text) in [(MASTER, key.as_str()), (AUTHORITY, authority)] {
        stack.secrets().create_secret().name(name).secret_string(text).send().await.unwrap();
    }
    key
}

fn fresh() -> String {
    let bytes: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
    STANDARD.encode(bytes)
}

/// Puts a new master key before the others.
pub(crate) async fn add(field: &Field) {
    let keys = {
        let mut keys = field.master_keys.lock().unwrap();
        keys.insert(0, fresh());
        keys.join(" ")
    };
    write(field, keys).await;
}

async fn write(field: &Field, keys: String) {
    field.stack().secrets().put_secret_value().secret_id(MASTER).secret_string(keys).send().await.unwrap();
}

/// The master keys that the secret has.
pub(crate) fn present(field: &Field) -> MasterKeys {
    MasterKeys::parse(&field.master_keys.lock().unwrap().join(" ")).unwrap()
}

/// Seals everything with a new key, takes the old ones away, and lets every tenant tell one
/// more event. All of it arrives, signed with every secret. Gives those events, and what does
/// not arrive.
pub(crate) async fn retire(field: &Field) -> (Vec<String>, Vec<String>) {
    // Processes read a changed secret after a minute. New ones read it at once.
    let start_anew = || ["Endpoints", "Deliver", "Authorize"].map(|name| field.own.kill(name));
    add(field).await;
    start_anew();
    let caller = Caller::of(field);
    let mut resealed = caller.ask("POST", "/reseal", String::new(), &[202]).await.body;
    while resealed["complete"] == false {
        resealed = caller.ask("POST", "/reseal", String::new(), &[202]).await.body;
    }
    if resealed["refused"] != 0 {
        field.books.breach(format!("not everything is resealed: {resealed}"));
    }
    let newest = {
        let mut keys = field.master_keys.lock().unwrap();
        keys.truncate(1);
        keys[0].clone()
    };
    write(field, newest).await;
    start_anew();
    let breaches = deliveries::registry(field).await;
    field.books.open().breaches.extend(breaches);
    let mut last = Vec::new();
    let tenants = field.endpoints.iter().map(|endpoint| endpoint.tenant).filter(|tenant| *tenant != CROWD);
    for tenant in tenants.collect::<std::collections::BTreeSet<_>>() {
        last.push(Tenant::new(field, tenant, domain::time::Millis::default()).tell_last().await);
    }
    let until = Instant::now() + PATIENCE;
    loop {
        // A restored card may have lost a secret.
        let is_exact = field.plan.weather != Weather::Fire;
        let missing: Vec<String> = last.iter().flat_map(|id| deliveries::unsigned(field, id, is_exact)).collect();
        if missing.is_empty() || Instant::now() > until {
            let mut breaches = std::mem::take(&mut field.books.open().breaches);
            breaches.extend(missing);
            return (last, breaches);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

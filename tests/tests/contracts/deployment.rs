//! What the templates of the cache and of the roll-back say, against a real Redis and the functions' own names.

use adapters::metrics::names::FAMILIES;
use serde_yaml_ng::Value;
use tests::redis_server::RedisServer;

fn template(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

/// A Redis in cluster mode with the user of the cache, and what it would answer that user.
struct Cache {
    server: RedisServer,
}

impl Cache {
    fn start() -> Self {
        let server = RedisServer::start_with(&["--cluster-enabled", "yes"]);
        let template = template(include_str!("../../../infra/cache.yaml"));
        let access = template["Resources"]["User"]["Properties"]["AccessString"].as_str().unwrap();
        let mut user = redis::cmd("ACL");
        user.arg("SETUSER").arg("steadhook").arg(">secret").arg(access.split_whitespace().collect::<Vec<_>>());
        let _: () = user.query(&mut server.connect()).unwrap();
        Self { server }
    }

    /// Redis's answer: `OK`, or why the user may not do it.
    fn dry_run(&self, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        redis::cmd("ACL").arg("DRYRUN").arg("steadhook").arg(words).query(&mut self.server.connect()).unwrap()
    }
}

#[test]
fn in_cluster_mode_the_caches_user_may_run_our_scripts_and_leave_no_code_behind() {
    let cache = Cache::start();
    for allowed in [
        "EVAL return 1 metrics:deliver",
        "EVALSHA 0a1b2c 1 webhook_status:x",
        "HGETALL webhook_status:x",
        "DEL webhook_status:x",
        "ZRANGE webhook_index:failed 0 9",
        "EVALSHA 0a1b2c 1 event:acme:order-1",
        "HGETALL event:acme:order-1",
        "ZRANGE event_index:failed 0 9",
        "ZRANGE waiting:ep_1 0 9",
        "LRANGE recent_deliveries 0 9",
        "HGETALL recent_sums:28333333",
        "SET erasing:acme 1 PX 900",
        "HGETALL work:replay:r-1",
        "SCAN 0 MATCH event:acme:* COUNT 1000",
        "SET heartbeat:deliver 1 EX 900",
        "EVALSHA 0a1b2c 1 work:erase:acme~order-1",
        "ZADD waiting:ep_1 1 order-1.ep_1",
        "LPUSH recent_deliveries {}",
        "EVALSHA 0a1b2c 1 recent_sums:1",
        "SET erasing:acme 1 PX 900",
        "SCAN 0 MATCH [de]* COUNT 500 TYPE hash",
        "INFO memory",
        "TIME",
        "PING",
        "CLUSTER SLOTS",
        "CLUSTER SHARDS",
        "CLUSTER NODES",
        "READONLY",
    ] {
        assert_eq!(cache.dry_run(allowed), "OK", "{allowed}");
    }
    for denied in [
        "SCRIPT LOAD return",
        "SCRIPT FLUSH",
        "SCRIPT KILL",
        "SCRIPT EXISTS 0a1b2c",
        "FUNCTION LOAD code",
        "FUNCTION DELETE library",
        "FUNCTION FLUSH",
        "FUNCTION RESTORE dump",
        "FUNCTION DUMP",
        "FUNCTION LIST",
        "FCALL function 1 webhook_status:x",
        "FCALL_RO function 1 webhook_status:x",
        "EVAL_RO return 1 webhook_status:x",
        "EVALSHA_RO 0a1b2c 1 webhook_status:x",
        "KEYS *",
        "RANDOMKEY",
        "DBSIZE",
        "FLUSHALL",
        "FLUSHDB",
        "SWAPDB 0 1",
        "SORT webhook_index:failed",
        "RESTORE webhook_status:x 0 dump",
        "MIGRATE host 6379 webhook_status:x 0 1000",
        "CONFIG GET *",
        "CONFIG SET maxmemory 1",
        "ACL LIST",
        "ACL SETUSER other",
        "CLIENT LIST",
        "CLIENT KILL TYPE normal",
        "CLIENT PAUSE 1000",
        "CLUSTER RESET",
        "CLUSTER FAILOVER",
        "CLUSTER FORGET node",
        "CLUSTER GETKEYSINSLOT 1 10",
        "CLUSTER ADDSLOTS 1",
        "REPLICAOF host 6379",
        "DEBUG SLEEP 1",
        "MODULE LIST",
        "MONITOR",
        "SHUTDOWN",
        "BGSAVE",
        "SLOWLOG GET",
        "LATENCY RESET",
        "SUBSCRIBE channel",
        "PUBLISH channel text",
        "MULTI",
    ] {
        let answer = cache.dry_run(denied);
        assert!(answer.contains("no permissions to run"), "{denied}: {answer}");
    }
}

#[test]
fn in_cluster_mode_no_command_and_no_script_reaches_a_key_that_is_not_ours() {
    let cache = Cache::start();
    for command in ["GET other", "DEL other", "EVALSHA 0a1b2c 1 other", "EVAL return 2 metrics:deliver other"] {
        let answer = cache.dry_run(command);
        assert!(answer.contains("no permissions to access the 'other' key"), "{command}: {answer}");
    }
}

#[test]
fn what_rolls_a_version_back_is_counted_by_the_functions() {
    let invocations = FAMILIES.iter().find(|family| family.name == "task_invocations_total").unwrap();
    let [(_, functions), (_, results)] = invocations.labels else { panic!("{:?}", invocations.labels) };
    let template = template(include_str!("../../../infra/rollback.yaml"));
    let alarms = template["Resources"].as_mapping().unwrap().values().map(|alarm| &alarm["Properties"]);
    let mut watched: Vec<&str> =
        alarms.filter(|alarm| alarm["Namespace"] == "Steadhook").map(|of| of["MetricName"].as_str().unwrap()).collect();
    watched.sort_unstable();
    assert_eq!(watched, ["task_invocations_total.deliver.error", "task_invocations_total.enqueue.error"]);
    for name in watched {
        let (family, labels) = name.split_once('.').unwrap();
        let (function, result) = labels.split_once('.').unwrap();
        assert_eq!(family, invocations.name);
        assert!(functions.contains(&function) && results.contains(&result), "{name}");
    }
}

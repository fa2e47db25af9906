//! The first connection to Redis of a process that has just started: a cluster over TLS, with the authorities of the
//! machine and as the user of the cache, under the CPU that Lambda gives a function of 256 MB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use redis::ConnectionLike as _;
use serde_json::Value;
use tests::binary::Function;
use tests::redis_server::{RedisServer, free_port};
use tests::tls::Authority;

use crate::figures::Goal::AtMost;
use crate::figures::{Figures, median};
use crate::stage::{Settings, Stage, batches};

const STARTS: usize = 15;
/// Lambda gives a function its share of a CPU in slices of 20 ms. 256 MB are 14.5 % of one: a whole one comes with
/// 1,769 MB.
const PERIOD_US: u32 = 20_000;
const QUOTA_US: u32 = 2_900;
const PASSWORD: &str = "as-secret-as-it-gets";

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    let cache = Cache::start();
    let settings = cache.settings(stage);
    let limited = Quota::new().is_some();
    let (mut connect, mut cpu, mut wall, mut missed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for n in 0..STARTS {
        let messages = stage.accepted(1, 1024, 200).await;
        let function = Function::start("deliver", &settings).await;
        function.polls().await;
        let before = function.usage().cpu;
        let quota = Quota::new();
        if let Some(quota) = &quota {
            quota.hold(function.pid());
        }
        let began = Instant::now();
        for event in batches(&messages, 1) {
            function.invoke_with(event).await;
        }
        wall.push(began.elapsed().as_secs_f64() * 1e3);
        cpu.push((function.usage().cpu - before).as_secs_f64() * 1e3);
        missed += usize::from(cache.records() <= n);
        let terminated = Command::new("kill").arg(function.pid().to_string()).status().unwrap();
        assert!(terminated.success());
        connect.extend(connected_ms(&function.ended().await.1));
        stage.forget();
    }
    let of = "deliver: first connection to Redis";
    if limited {
        figures.judge(format!("{of}, 14.5 % of a CPU, wall"), median(connect), "ms", AtMost(300.0));
    } else {
        // There is no cgroup to limit a CPU with: what is left to compare is the time on it.
        figures.note(format!("{of}, a whole CPU: no cgroup here, wall"), median(connect), "ms");
    }
    figures.judge("deliver: first invocation of a process, Redis over TLS, CPU", median(cpu), "ms", AtMost(10.0));
    figures.note("deliver: first invocation of a process, Redis over TLS, wall", median(wall), "ms");
    figures.judge(format!("{of}: first invocations that missed it, of {STARTS}"), missed as f64, "", AtMost(0.0));
}

/// How long the first connection took, as the function's log tells.
fn connected_ms(log: &str) -> Option<f64> {
    let line = log.lines().find(|line| line.contains("connected to Redis"))?;
    serde_json::from_str::<Value>(line).ok()?["duration_ms"].as_f64()
}

/// A cache as `infra/cache.yaml` makes it: one shard of a cluster, over TLS, with its user.
struct Cache {
    server: RedisServer,
    tls_port: u16,
    authorities: PathBuf,
    _authority: Authority,
}

impl Cache {
    fn start() -> Self {
        let (authority, port, tls_port, bus_port) = (Authority::new(), free_port(), free_port(), free_port());
        let files = authority.files_for("127.0.0.1");
        let options = [
            ["--tls-port", &tls_port.to_string(), "--cluster-port", &bus_port.to_string()],
            ["--tls-cert-file", &files.certificate, "--tls-key-file", &files.key],
            ["--tls-ca-cert-file", &files.authority, "--tls-auth-clients", "no"],
            ["--tls-cluster", "yes", "--cluster-enabled", "yes"],
            ["--cluster-announce-ip", "127.0.0.1", "--loglevel", "warning"],
        ];
        let server = RedisServer::start_at(port, &options.concat());
        let mut look = server.connect();
        let mut run = |command: &[&str]| look.req_command(redis::cmd(command[0]).arg(&command[1..])).unwrap();
        run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        let serves = |info: redis::Value| redis::from_redis_value::<String>(info).unwrap().contains("cluster_state:ok");
        while !serves(run(&["CLUSTER", "INFO"])) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let template: serde_yaml_ng::Value =
            serde_yaml_ng::from_str(include_str!("../../../infra/cache.yaml")).unwrap();
        let access = template["Resources"]["User"]["Properties"]["AccessString"].as_str().unwrap();
        let password = format!(">{PASSWORD}");
        let user = ["ACL", "SETUSER", "steadhook", &password];
        run(&user.into_iter().chain(access.split_whitespace()).collect::<Vec<_>>());
        // As many authorities as this machine has, and one more.
        let machine = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
        let authorities = Path::new(&files.authority).with_file_name("machine.pem");
        fs::write(&authorities, machine + &authority.pem()).unwrap();
        Self { server, tls_port, authorities, _authority: authority }
    }

    fn settings(&self, stage: &Stage) -> Settings {
        let url = format!("rediss://steadhook:{PASSWORD}@127.0.0.1:{}", self.tls_port);
        let authorities = self.authorities.to_str().unwrap();
        stage.settings(&[("REDIS_URL", &url), ("REDIS_CLUSTER", "true"), ("SSL_CERT_FILE", authorities)])
    }

    /// How many deliveries it knows of.
    fn records(&self) -> usize {
        redis::cmd("KEYS").arg("webhook_status:*").query::<Vec<String>>(&mut self.server.connect()).unwrap().len()
    }
}

/// A limit on CPU time. It ends with this value, after its process.
struct Quota(PathBuf);

impl Quota {
    /// `None` where control groups cannot be made.
    fn new() -> Option<Self> {
        let name = format!("steadhook-bench-{}", std::process::id());
        let first = Path::new("/sys/fs/cgroup/cpu").join(&name);
        let set = |dir: &Path, file: &str, text: String| fs::write(dir.join(file), text).ok();
        if fs::create_dir_all(&first).is_ok() {
            let limit = Self(first);
            set(&limit.0, "cpu.cfs_period_us", PERIOD_US.to_string())?;
            set(&limit.0, "cpu.cfs_quota_us", QUOTA_US.to_string())?;
            return Some(limit);
        }
        // The second version of control groups has one tree.
        let second = Path::new("/sys/fs/cgroup").join(&name);
        fs::create_dir_all(&second).ok()?;
        let limit = Self(second);
        set(&limit.0, "cpu.max", format!("{QUOTA_US} {PERIOD_US}"))?;
        Some(limit)
    }

    fn hold(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // A process that still ends keeps it for a moment.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

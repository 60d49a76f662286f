//! What a person reads when a setting is wrong, and what comes out when all is right.

use super::*;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn of_file(text: &str) -> Result<Settings, ConfigError> {
    resolve(Some(("t.toml", text)), env(&[]))
}

fn problem(text: &str) -> String {
    of_file(text).expect_err(text).to_string()
}

#[test]
fn without_a_file_every_setting_has_the_contracts_default() {
    let settings = resolve(None, env(&[("TALLYMAN_CONFIG", "x"), ("PATH", "y")])).expect("defaults are legal");
    assert_eq!(settings.kafka.bootstrap_servers, "127.0.0.1:9092");
    assert_eq!(settings.kafka.topics.dead_letters, "credit.dead-letters");
    assert_eq!((settings.kafka.partitions, settings.kafka.replication_factor), (12, 3));
    assert_eq!(settings.memory_limit_bytes, 1 << 30);
    assert_eq!(settings.dedupe_window, Duration::from_hours(24));
    assert_eq!(settings.limits_guard, None);
    assert_eq!(settings.time.max_age, Duration::from_hours(90 * 24));
    let error = settings.default_terms().expect_err("not set");
    assert!(error.to_string().contains("TALLYMAN__LIMITS__DEFAULT=allow"), "{error}");
}

#[test]
fn the_annotated_reference_is_the_defaults_and_names_every_key() {
    let text = include_str!("../../config/tallyman.toml");
    let written = resolve(Some(("config/tallyman.toml", text)), env(&[])).expect("the reference is legal");
    let defaults = resolve(None, env(&[])).expect("defaults are legal");
    for setting in &defaults.effective {
        let in_file = written.effective.iter().find(|other| other.key == setting.key).expect("same keys");
        assert_eq!(in_file.value, setting.value, "{}", setting.key);
        assert_ne!(in_file.origin, Origin::Default, "{} is missing from the reference", setting.key);
    }
    // The keys that stand there as comments are legal too.
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .fold(String::new(), |all, line| all + line + "\n");
    let every = uncommented.replace("default = \"allow\"", "");
    resolve(Some(("config/tallyman.toml", &every)), env(&[])).expect("every key that is shown is legal");
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[kafka]\ngroup_id = 'file'\npartitions = 3\n[kafka.client]\n'sasl.password' = 'old'\n";
    let over = env(&[
        ("TALLYMAN__KAFKA__GROUP_ID", "env"),
        ("TALLYMAN__KAFKA__CLIENT__SECURITY_PROTOCOL", "ssl"),
        ("TALLYMAN__LIMITS__DEFAULT", "block"),
    ]);
    let settings = resolve(Some(("t.toml", text)), over).expect("legal");
    assert_eq!(settings.kafka.group_id, "env");
    assert_eq!(settings.kafka.partitions, 3);
    assert_eq!(settings.kafka.client["security.protocol"], "ssl");
    assert_eq!(settings.default_terms().expect("set"), &DefaultTerms::Block);
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest_known_one() {
    assert_eq!(
        problem("[kafka]\n\nbootstrap_server = 'x:1'\n"),
        "the configuration cannot be used:\n  t.toml:3: `kafka.bootstrap_server` is not known; the nearest known key \
         is `kafka.bootstrap_servers`"
    );
    let error = resolve(None, env(&[("TALLYMAN__STORE__DIRS", "/x")])).expect_err("unknown").to_string();
    assert!(error.contains("TALLYMAN__STORE__DIRS: `store.dirs` is not known; the nearest"), "{error}");
    assert!(error.contains("`store.dir`"), "{error}");
}

#[test]
fn each_wrong_value_is_told_with_its_place_and_what_it_must_be() {
    for (text, told) in [
        (
            "[kafka]\npartitions = 0",
            "t.toml:2: `kafka.partitions` is `0`: it must be a whole number from 1 to 10000",
        ),
        ("[kafka]\npartitions = [1]", "`kafka.partitions` is a list, it must be a single value"),
        ("[kafka]\naccept_topic_settings = 'maybe'", "it must be true or false"),
        ("[kafka]\noutput_encoding = 'avro'", "it must be one of json, registry, single_object"),
        ("[kafka]\nbootstrap_servers = ''", "it must not be empty"),
        ("[kafka.topics]\nusage = 'a b'", "must be a topic's name"),
        ("[kafka.topics]\nalerts = 'credit.usage'", "another of kafka.topics is too"),
        ("[kafka.client]\n'group.id' = 'x'", "kafka.client: `group.id` cannot be set, it is kafka.group_id"),
        ("[registry]\nurl = 'ftp://x'", "it must be an address such as http://127.0.0.1:8081"),
        ("[registry]\nurl = 'http://u:p@x'", "use registry.username and registry.password_file"),
        ("[memory]\nlimit = '1MiB'", "it must be at least 64MiB"),
        ("[memory]\nlimit = '1GB'", "it must be a size such as 512MiB or 1GiB"),
        ("[dedupe]\nwindow = 24", "`dedupe.window` is `24`: it must be a duration such as"),
        ("[http]\nlisten = '0.0.0.0:8080'", "it must be a loopback address, for there is no authentication yet"),
        ("[http]\nlisten = 'localhost'", "it must be an address and port such as 127.0.0.1:8080"),
        ("[http]\nadvertise = 'host'", "it must be host:port"),
        ("[gate]\nlisten = '0.0.0.0:8090'", "it must be a loopback address"),
        ("[gate]\nunknown = 'maybe'", "it must be one of allow, block"),
        ("[gate]\nstale = 'drop'", "it must be one of keep, allow, block"),
        ("[gate]\nstale_after = 60", "`gate.stale_after` is `60`: it must be a duration such as"),
        ("[gate]\nblock_status = 500", "it must be one of 403, 402, 429"),
        ("[metrics]\ntop_orgs = -1", "it must be a whole number from 0 to 1000"),
        ("[log]\nlevel = 'tallyman=loud'", "it must be error, warn, info, debug, trace or a filter"),
        ("[store]\nbuiltin_views = ['org']", "t.toml:2: `store.builtin_views` is no longer needed"),
        ("[[views]]\nname = 'v'\ndimensions = ['user']", "t.toml:3: `views[0].dimensions` is no longer needed"),
        ("[time]\nzones = 'local'", "`time.zones` is `local`: it must be one of bundled, system"),
        ("[limits]\nguard = '6m'", "`limits.guard` is `6m`: it must be a duration of at most 5m"),
        ("[limits]\ndefault = 'maybe'", "it must be allow, block, or a table"),
        ("[limits.default]\nplan = 'free'", "`limits.default.base_allocation` is missing (it may be only if"),
        (
            "[limits.default]\nbase_allocation = 1.0000001",
            "t.toml:2: `limits.default.base_allocation` is more decimals than",
        ),
        ("[limits.default]\nbase_allocation = -1", "`limits.default.base_allocation` must lie within 0..10^9"),
        (
            "[limits.default]\nunlimited = true\ntime_zone = 'Mars'",
            "t.toml:3: `limits.default.time_zone` is \"Mars\", no IANA time zone",
        ),
        (
            "[limits.default]\nunlimited = true\nthresholds = [90, 75]",
            "t.toml:3: `limits.default.thresholds` must ascend",
        ),
        (
            "[limits.default]\nunlimited = true\n[limits.default.auto_purchase]\nat_percent = 90\npack_credits = 5",
            "`limits.default.auto_purchase.max_packs_per_period` is missing",
        ),
    ] {
        let error = problem(text);
        assert!(error.contains(told), "{text}\nsays: {error}\nnot:  {told}");
        assert_eq!(error.lines().count(), 2, "{text} is one problem, told once: {error}");
    }
    let error = problem("[kafka]\npartitions = \n");
    assert!(error.starts_with("t.toml:2: not valid TOML: "), "{error}");
}

#[test]
fn every_problem_of_a_file_is_told_at_once() {
    assert_eq!(problem("[kafka]\npartitions = 0\n[memory]\nlimit = 'x'\n[htp]\nlisten = 'y'").lines().count(), 4);
}

#[test]
fn an_org_policys_fields_can_be_the_default() {
    let text = "[limits.default]\nplan = 'free'\nbase_allocation = 1000.5\nlimit_mode = 'SOFT'\nsoft_extra = 10\n\
                thresholds = [50, 100]\nanchor_day = 15\ntime_zone = 'Europe/Berlin'\n";
    let settings = of_file(text).expect("legal");
    let DefaultTerms::Policy(policy) = settings.default_terms().expect("set") else { panic!("a policy") };
    assert_eq!(policy.base_allocation.micros(), 1_000_500_000);
    assert_eq!(policy.thresholds, [50, 100]);
    assert_eq!((policy.anchor_day, policy.time_zone.as_str()), (15, "Europe/Berlin"));
    assert_eq!(policy.limit_mode, crate::domain::terms::records::LimitMode::Soft);
}

#[test]
fn a_secret_can_come_from_a_file_and_is_never_shown() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "hush\n").expect("written");
    let path = file.path().display();
    let text = format!("[kafka.client]\n'sasl.password_file' = '{path}'\n[registry]\npassword = 'sesame'\n");
    let settings = of_file(&text).expect("legal");
    assert_eq!(settings.kafka.client["sasl.password"], "hush");
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hush") && !shown.contains("sesame"), "{shown}");
    let both = format!("[registry]\npassword = 'a'\npassword_file = '{path}'\n");
    assert!(problem(&both).contains("t.toml:2: `registry.password` and `registry.password_file` are both set"));
    let gone = problem("[registry]\npassword_file = '/nowhere'");
    assert!(gone.contains("t.toml:2: `registry.password_file` names `/nowhere`, which cannot be read"), "{gone}");
}

#[test]
fn a_config_file_that_is_not_there_is_told() {
    let error = load(Some(Path::new("/nowhere/tallyman.toml"))).expect_err("not there").to_string();
    assert!(error.starts_with("cannot read the config file /nowhere/tallyman.toml"), "{error}");
}

#[test]
fn a_variable_with_one_underscore_too_few_is_an_error_that_names_the_right_one() {
    for (wrong, right) in [
        ("TALLYMAN_KAFKA__GROUP_ID", "TALLYMAN__KAFKA__GROUP_ID"),
        ("TALLYMAN_KAFKA_GROUP_ID", "TALLYMAN__KAFKA__GROUP_ID"),
        ("TALLYMAN_KAFKA__CLIENT__SASL_PASSWORD", "TALLYMAN__KAFKA__CLIENT__SASL_PASSWORD"),
        ("TALLYMAN_LOG_LEVEL", "TALLYMAN__LOG__LEVEL"),
        ("TALLYMAN_HTTP_PROBE_LISTEN", "TALLYMAN__HTTP__PROBE_LISTEN"),
        ("TALLYMAN_REGISTRY_PASSWORD_FILE", "TALLYMAN__REGISTRY__PASSWORD_FILE"),
        ("TALLYMAN_NO__SUCH", "TALLYMAN__NO__SUCH"),
    ] {
        let error = resolve(None, env(&[(wrong, "x")])).expect_err(wrong).to_string();
        assert!(error.contains(&format!("{wrong}: ")) && error.contains(&format!("`{right}`")), "{error}");
    }
    // Kubernetes makes such for a service that is called tallyman or tallyman-gate.
    let ours = ["TALLYMAN_CONFIG", "TALLYMAN_SERVICE_HOST", "TALLYMAN_PORT_8080_TCP_ADDR", "TALLYMAN_GATE_PORT"];
    resolve(None, env(&ours.map(|name| (name, "x")))).expect("none of them is a setting");
}

#[test]
fn probes_may_listen_beyond_loopback_and_nothing_else_may() {
    let text = "[http]\nprobe_listen = '0.0.0.0:9090'\n[gate]\nprobe_listen = '[::]:0'\n";
    let settings = of_file(text).expect("legal");
    assert_eq!(settings.http.probe_listen.map(|address| address.port()), Some(9090));
    assert!(settings.gate.probe_listen.is_some() && !settings.probe_orgs);
    assert_eq!(of_file("").expect("legal").http.probe_listen, None);
    assert!(problem("[http]\nlisten = '0.0.0.0:8080'").contains("must be a loopback address"));
    assert!(
        problem("[http]\nprobe_listen = 'everywhere'").contains("`http.probe_listen` is `everywhere`: it must be")
    );
}

#[test]
fn a_word_that_is_no_level_is_an_error_that_names_the_levels() {
    let error = problem("[log]\nlevel = 'loud'");
    assert!(error.contains("t.toml:2: `log.level` is `loud`: it must be error, warn, info, debug"), "{error}");
}

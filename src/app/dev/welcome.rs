//! What `tallyman dev` says: where everything is, who is who, what to try, and what this broker is not. Text alone.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::Levels;
use super::sample::Sample;
use super::watch::standing;
use crate::kafka::KafkaSettings;

/// The welcome.
pub(super) fn text(
    kafka: &KafkaSettings,
    address: SocketAddr,
    taken: Option<SocketAddr>,
    sample: &Sample,
    levels: &Levels,
) -> String {
    let mut out =
        String::from("\nTallyman runs. Nothing of it is kept: Ctrl-C ends it and leaves nothing behind.\n\n");
    let broker = &kafka.bootstrap_servers;
    let note = taken.map_or_else(String::new, |taken| format!("   ({taken} is in use)"));
    let _ = write!(
        out,
        "  API      http://{address}{note}\n  Broker   {broker}   ({} partitions)\n\nOrganisations, after a month of \
         history:\n",
        kafka.partitions
    );
    for org in sample.orgs() {
        let standing = levels.get(&org.id).map_or_else(|| "no decision yet".to_owned(), standing);
        let _ = writeln!(out, "  {:15} {:36} {standing}", org.id, org.about);
    }
    out.push_str(&to_try(kafka, address, &sample.nearly_spent().id));
    let _ = write!(
        out,
        "\nThe broker is embedded: it keeps nothing on disk and 5 MiB a partition, has no real transactions and no \
         topic\nsettings. Good for a look; guarantees need a real Kafka.\n\nLive traffic runs. {} is about to spend \
         its allowance; decisions as they come:\n\n",
        sample.nearly_spent().id
    );
    out
}

fn to_try(kafka: &KafkaSettings, address: SocketAddr, org: &str) -> String {
    let (api, broker) = (format!("http://{address}"), &kafka.bootstrap_servers);
    let (usage, decisions) = (&kafka.topics.usage, &kafka.topics.decisions);
    format!(
        r#"
Try, in another terminal:
  curl -s {api}/v1/orgs
  curl -s {api}/v1/orgs/{org}
  curl -s '{api}/v1/orgs/{org}/usage?bucket=day&group_by=product'
  curl -s {api}/v1/orgs/{org}/decisions
  curl -s {api}/readyz
  curl -s {api}/metrics
  tallyman query summary {org} --url {api}
Write an event of your own, and follow the decisions:
  echo '{{"type":"UsageEvent","event_id":"mine-1","source":"me","occurred_at":"'$(date -u +%FT%TZ)'","org_id":"maple-clinic","product":"chat","operation":"ask","credits":"2.5"}}' |
    kcat -P -b {broker} -t {usage} -k maple-clinic -X partitioner=murmur2_random
  kcat -C -b {broker} -t {decisions} -X isolation.level=read_committed -f '%k %s\n'
"#
    )
}

/// What to try when the first org is blocked.
pub(super) fn after_block(org: &str) -> String {
    format!("                 its traffic is refused from now on, as a gateway would; see {org} in the API\n")
}

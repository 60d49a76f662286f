//! What `tallyman dev` says: where everything is, who is who, what to try, and what this broker is not. Text alone.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::sample::{NEARLY_SPENT, Org};
use super::watch::standing;
use crate::domain::credits::CreditSum;
use crate::domain::limits::decision::LimitDecision;
use crate::kafka::KafkaSettings;

/// The welcome.
pub(super) fn text<'a>(
    kafka: &KafkaSettings,
    address: SocketAddr,
    taken: Option<SocketAddr>,
    standings: impl Iterator<Item = (&'a Org, CreditSum, Option<&'a LimitDecision>)>,
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
    for (org, used, decision) in standings {
        let standing = decision.map_or_else(|| "no decision yet".to_owned(), |of| standing(used, of));
        let _ = writeln!(out, "  {:15} {:36} {standing}", org.id, org.about);
    }
    out.push_str(&to_try(kafka, address));
    let _ = write!(
        out,
        "\nThe broker is embedded: it keeps nothing on disk and 5 MiB a partition, has no real transactions and no \
         topic\nsettings. Good for a look; guarantees need a real Kafka.\n\nLive traffic runs. {NEARLY_SPENT} is about to spend \
         its allowance; decisions as they come:\n\n"
    );
    out
}

fn to_try(kafka: &KafkaSettings, address: SocketAddr) -> String {
    let (api, broker) = (format!("http://{address}"), &kafka.bootstrap_servers);
    let org = NEARLY_SPENT;
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
  echo '{{"type":"UsageEvent","event_id":"mine-1","source":"me","occurred_at":"'$(date -u +%FT%TZ)'","org_id":"maple-health","product":"chat","operation":"ask","credits":"2.5"}}' |
    kcat -P -b {broker} -t {usage} -k maple-health -X partitioner=murmur2_random
  kcat -C -b {broker} -t {decisions} -X isolation.level=read_committed -f '%k %s\n'
"#
    )
}

/// What to try when the first org is blocked.
pub(super) fn after_block(kafka: &KafkaSettings) -> String {
    format!(
        r"
  Its traffic is refused from now on, as a gateway would do it. Give it more, and the block is lifted:
    printf 'type: OrgPolicy\norg_id: {NEARLY_SPENT}\nplan: team\nbase_allocation: 50000\n' |
      TALLYMAN__KAFKA__BOOTSTRAP_SERVERS={} tallyman policy apply -

",
        kafka.bootstrap_servers
    )
}

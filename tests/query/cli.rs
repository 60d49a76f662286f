//! `tallyman query` against a real listener.

use clap::Parser;
use tallyman::cli::query::{AskError, QueryArgs, run};

use super::server::Server;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    query: QueryArgs,
}

fn ask(server: &Server, line: &str) -> Result<String, AskError> {
    let line = Line::try_parse_from(std::iter::once("query").chain(line.split(' '))).unwrap();
    let mut out = Vec::new();
    run(&line.query, &server.url, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn usage_is_a_table_of_all_pages_with_its_total() {
    let server = Server::start(1);
    let range = "usage acme --from 2026-10-01 --to 2026-12-01";
    let table =
        ask(&server, &format!("{range} --bucket month --group-by product --measures credits,events")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["start", "product", "credits", "events"]);
    assert!(lines[5].starts_with("total") && lines[5].ends_with(" 300"), "{table}");
    assert!(lines[7].starts_with("2026-10-01T00:00:00Z to 2026-12-01T00:00:00Z, as of"), "{table}");
    // Six users by hour are more than one page.
    let hours = ask(&server, &format!("{range} --bucket hour --group-by user,model --output csv")).unwrap();
    assert_eq!(hours.lines().count(), 1 + 61 * 24 * 12);
    let json = ask(&server, &format!("{range} --bucket hour --group-by user,model --output json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 61 * 24 * 12);
    assert_eq!(json["total"]["events"], 300);
}

#[test]
fn a_summary_is_words_bars_and_dates_for_people_and_one_row_of_csv() {
    let server = Server::start(1);
    let text = ask(&server, "summary acme").unwrap();
    println!("{text}");
    for part in [
        "acme: plan pro, HARD\n",
        "Period      2026-11-11 23:00 UTC to 2026-12-11 23:00 UTC, 22 days left\n",
        "Decision    BLOCK: the allowance of this period is spent (ALLOWANCE_SPENT), decided 2026-11-20 10:00 UTC\n",
        "Used        [..............................] 0.",
        " of 1000000\n",
        "Peak day    2026-11-",
        "As of       2026-11-20 12:",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let csv = ask(&server, "summary acme --output csv").unwrap();
    assert!(
        csv.starts_with("org_id,plan,limit_mode,base_allocation,") && csv.contains("decision.reason"),
        "{csv}"
    );
    let json = ask(&server, "summary acme --output json").unwrap();
    assert!(json.contains("\"period_start\": \"2026-11-11T23:00:00Z\""), "{json}");
    assert_eq!(ask(&server, "summary acme --output csv").unwrap().lines().count(), 2);
}

#[test]
fn a_table_of_usage_leaves_rows_of_zeros_out_and_counts_them_and_csv_and_json_have_all() {
    let server = Server::start(1);
    // No credit is beyond the allowance of a million.
    let question =
        "usage acme --from 2026-10-01 --to 2026-12-01 --bucket day --measures overage --group-by product";
    let table = ask(&server, question).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["start", "product", "overage"], "{table}");
    assert!(lines[1].starts_with("total") && lines[1].ends_with("0.000000"), "{table}");
    assert_eq!(lines[3], "122 rows of zeros are left out of this table; --output csv and --output json have all.");
    assert_eq!(ask(&server, &format!("{question} --output csv")).unwrap().lines().count(), 1 + 122);
    let json = ask(&server, &format!("{question} --output json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 122);
    let whole = ask(&server, "usage acme --from 2026-09-01 --to 2026-09-02 --bucket none").unwrap();
    assert!(whole.lines().nth(1).is_some_and(|line| line.contains("0.000000")), "the only row stays: {whole}");
}

#[test]
fn periods_are_a_table_with_a_line_for_each() {
    let server = Server::start(1);
    let table = ask(&server, "periods acme").unwrap();
    let lines: Vec<&str> = table.lines().collect();
    let columns =
        ["start", "end", "plan", "base_allocation", "allowance", "used", "beyond_base", "grants_used", "overage"];
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), columns);
    let first: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(first[..4], ["2026-11-11T23:00:00Z", "2026-12-11T23:00:00Z", "pro", "1000000.000000"]);
    let csv = ask(&server, "periods acme --output csv").unwrap();
    assert_eq!(csv.lines().next(), Some(&*columns.join(",")));
    let json: serde_json::Value =
        serde_json::from_str(&ask(&server, "periods acme --output json").unwrap()).unwrap();
    assert_eq!(json["periods"].as_array().unwrap().len(), 3);
    let usage = ask(&server, "usage acme --measures credits,overage --bucket none --output csv").unwrap();
    assert!(usage.starts_with("credits,overage\n") && usage.ends_with(",0.000000\n"), "{usage}");
}

#[test]
fn errors_are_sentences_with_the_contracts_exit_codes() {
    let server = Server::start(1);
    for (line, code, says) in [
        ("usage acme --bucket fortnight", 2, "there is no bucket `fortnight`"),
        ("usage a/b", 2, "cannot be an org id"),
        ("summary nobody", 1, "no usage and no policy"),
        ("summary acme --url http://127.0.0.1:1", 1, "does not answer"),
    ] {
        let error = ask(&server, line).unwrap_err();
        assert_eq!(error.exit_code(), code, "{line}");
        assert!(error.to_string().contains(says), "{line}: {error}");
        assert!(!error.to_string().contains('{'), "{line}: {error}");
    }
}

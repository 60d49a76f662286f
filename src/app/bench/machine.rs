//! What Linux tells of this process: processor time, bytes written, memory. Nothing where it does not tell.

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default()
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(f64::NAN)
}

/// Seconds of processor time so far, of all threads.
pub(super) fn cpu_seconds() -> f64 {
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    // Linux counts in hundredths for programs, whatever its own clock does.
    ticks / 100.0
}

/// Bytes handed to disks so far.
pub(super) fn written_bytes() -> f64 {
    field(&read("io"), "write_bytes:")
}

/// Forgets the peak of memory.
pub(super) fn reset_peak() {
    // Where it is refused the peak is that of the whole run.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory since then, in bytes.
pub(super) fn peak_bytes() -> f64 {
    field(&read("status"), "VmHWM:") * 1024.0
}

//! What the process takes of the machine: pages of its own code, and processor time.

use std::{fs, io, os::unix::fs::MetadataExt as _, ptr, time::Duration};

use rustix::{
    mm::{Advice, madvise},
    time::{ClockId, clock_gettime},
};

/// Forgets which pages of its code the process has touched so far: what it goes on to use comes back from the page
/// cache at a fault each 64 KiB, and what only its start needed (reading arguments, the first certificate) is held no
/// longer. Returns how many bytes were looked through.
///
/// A sidecar's resident set is its program, most of all: 9.2 of 12.2 MiB.
///
/// # Errors
/// `/proc` is not there, or is not what it was.
pub fn forget_code() -> io::Result<usize> {
    let program = fs::metadata("/proc/self/exe")?.ino();
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut bytes = 0;
    for (start, end) in code(&maps, program) {
        #[expect(
            unsafe_code,
            reason = "no library offers this for a mapping that it has not made"
        )]
        // SAFETY: the range is a whole mapping of the program's file, private and never writable (nor relocated: that
        // would need a writable one), so that each page can be had again from the file as it was.
        unsafe {
            madvise(ptr::with_exposed_provenance_mut(start), end - start, Advice::LinuxDontNeed)
        }?;
        bytes += end - start;
    }
    Ok(bytes)
}

/// Processor time that the process has used, all threads together.
pub fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(used.tv_nsec).unwrap_or_default())
}

/// The mappings of `program` (an inode) that hold code, from `/proc/PID/maps` (proc(5)).
fn code(maps: &str, program: u64) -> impl Iterator<Item = (usize, usize)> {
    maps.lines().filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights, inode) = (fields.next()?, fields.next()?, fields.nth(2)?);
        let (start, end) = range.split_once('-')?;
        let range = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        (rights == "r-xp" && inode.parse() == Ok(program) && range.0 < range.1).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_chosen() {
        let maps = "\
7f28a0c00000-7f28a0ecf000 r--p 00000000 08:01 42 /usr/local/bin/tulle-proxy
7f28a0ecf000-7f28a19ac000 r-xp 002ce000 08:01 42 /usr/local/bin/tulle-proxy (deleted)
7f28a19ac000-7f28a1a10000 rw-p 00daa000 08:01 42 /usr/local/bin/tulle-proxy
7f28a1a10000-7f28a1a20000 r-xp 00000000 08:01 43 /usr/lib/other.so
7fff26fd9000-7fff26ffa000 r-xp 00000000 00:00 0 [vdso]
nonsense
";
        let chosen: Vec<_> = code(maps, 42).collect();
        assert_eq!(chosen, [(0x7f28_a0ec_f000, 0x7f28_a19a_c000)]);
    }

    #[test]
    fn the_program_goes_on() {
        assert!(forget_code().unwrap() > 0);
        assert_eq!(code("1-2 r-xp 0 0 7 x", 7).count(), 1);
    }
}

package stage

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process has used since its start.
type Usage struct {
	CPU          time.Duration // of all its threads
	User, System int           // in clock ticks: coarse, used for their proportion alone
	Memory       int           // resident, KiB
}

// Usage reads the clock of the process's CPU time, which is exact, and holds the
// time of threads that have ended; and proc(5).
func (p *Process) Usage() (u Usage, err error) {
	pid := p.PID()
	dir := fmt.Sprintf("/proc/%d/", pid)
	var t unix.Timespec
	const scheduler = 2 // CPUCLOCK_SCHED of clock_getcpuclockid(3)
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &t); err != nil {
		return u, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	u.CPU = time.Duration(t.Nano())
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if u.User, err = strconv.Atoi(fields[11]); err != nil {
		return u, err
	}
	if u.System, err = strconv.Atoi(fields[12]); err != nil {
		return u, err
	}
	pages, err := strconv.Atoi(fields[21])
	u.Memory = pages * os.Getpagesize() / 1024
	return u, err
}

// ForgetPeak has Peak begin anew.
func (p *Process) ForgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("5"), 0) // proc_pid_clear_refs(5)
}

// Peak is the most that was resident since ForgetPeak, in KiB.
func (p *Process) Peak() (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	return number(b, "VmHWM:")
}

// number finds the number that follows a word at the begin of a line.
func number(text []byte, word string) (int, error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), word); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("no line with %s", word)
}

// Machine tells where and when something is measured: date, kernel, processor, Go
// and the load average, which says how far latencies may be believed.
func Machine(now time.Time) string {
	var parts []string
	parts = append(parts, now.Format("2006-01-02 15:04"))
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		parts = append(parts, "Linux "+unix.ByteSliceToString(u.Release[:]))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		model, cores := "", 0
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(line, ":")
			switch strings.TrimSpace(key) {
			case "processor":
				cores++
			case "model name":
				model = strings.TrimSpace(value)
			}
		}
		parts = append(parts, fmt.Sprintf("%d cores of %s", cores, model))
	}
	if out, err := exec.Command("go", "env", "GOVERSION").Output(); err == nil {
		parts = append(parts, strings.TrimSpace(string(out)))
	}
	parts = append(parts, "load average "+Load())
	return strings.Join(parts, ", ")
}

// Load is the load average of the last 1, 5 and 15 minutes.
func Load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

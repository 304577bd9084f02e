package rpl

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Table counts what became of scenarios, by folder.
type Table struct {
	folders map[string]*count
}

type count struct {
	passed, failed int
	unsupported    map[string]int // by reason
}

// Add notes the outcome of Play for a scenario of folder.
func (t *Table) Add(folder string, err error) {
	if t.folders == nil {
		t.folders = map[string]*count{}
	}
	c, ok := t.folders[folder]
	if !ok {
		c = &count{unsupported: map[string]int{}}
		t.folders[folder] = c
	}
	var why Unsupported
	switch {
	case err == nil:
		c.passed++
	case errors.As(err, &why):
		c.unsupported[string(why)]++
	default:
		c.failed++
	}
}

// Totals are the counts of all folders.
func (t *Table) Totals() (passed, failed, unsupported int) {
	for _, c := range t.folders {
		passed += c.passed
		failed += c.failed
		unsupported += c.lacking()
	}
	return passed, failed, unsupported
}

func (c *count) lacking() int {
	n := 0
	for _, k := range c.unsupported {
		n += k
	}
	return n
}

// Write writes the table, and as its last line the one for machines.
func (t *Table) Write(w io.Writer) {
	fmt.Fprintf(w, "%-12s %7s %7s %12s\n", "folder", "passed", "failed", "unsupported")
	for _, folder := range slices.Sorted(maps.Keys(t.folders)) {
		c := t.folders[folder]
		fmt.Fprintf(w, "%-12s %7d %7d %12d\n", folder, c.passed, c.failed, c.lacking())
		reasons := slices.SortedFunc(maps.Keys(c.unsupported), func(a, b string) int {
			return cmp.Or(c.unsupported[b]-c.unsupported[a], strings.Compare(a, b))
		})
		for _, r := range reasons {
			fmt.Fprintf(w, "%-12s %28d  %s\n", "", c.unsupported[r], r)
		}
	}
	passed, failed, unsupported := t.Totals()
	fmt.Fprintf(w, "rpl: PASS %d FAIL %d UNSUPPORTED %d\n", passed, failed, unsupported)
}

// ReadExceptions reads the list of scenarios that need not pass: a line each,
// "FOLDER/FILE: reason". Lines that start with # are comments.
func ReadExceptions(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]string{}
	in := bufio.NewScanner(f)
	for line := 1; in.Scan(); line++ {
		text := strings.TrimSpace(in.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		file, reason, ok := strings.Cut(text, ":")
		if reason = strings.TrimSpace(reason); !ok || reason == "" {
			return nil, fmt.Errorf("%s:%d: write FOLDER/FILE: reason", path, line)
		}
		if _, twice := all[file]; twice {
			return nil, fmt.Errorf("%s:%d: %s is listed twice", path, line, file)
		}
		all[file] = reason
	}
	return all, in.Err()
}

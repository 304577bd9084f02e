package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// needles are the forms in which an IPv4 address could stand in a file: as
// people write it, reversed as in in-addr.arpa, as a number, in hexadecimal,
// mapped into IPv6; and, where case counts, in base64 and as bytes.
func needles(a netip.Addr) (text []string, base64Form string, binaryForms [][]byte) {
	b := a.As4()
	reversed := slices.Clone(b[:])
	slices.Reverse(reversed)
	arpa := make([]string, len(reversed))
	for i, octet := range reversed {
		arpa[i] = fmt.Sprint(octet)
	}
	text = []string{
		a.String(),
		strings.ReplaceAll(a.String(), ".", "-"),
		strings.Join(arpa, "."),
		fmt.Sprint(binary.BigEndian.Uint32(b[:])),
		fmt.Sprint(binary.LittleEndian.Uint32(b[:])),
		hex.EncodeToString(b[:]),
		hex.EncodeToString(reversed),
		fmt.Sprintf("%02x%02x:%02x%02x", b[0], b[1], b[2], b[3]),
		fmt.Sprintf("%x:%x", binary.BigEndian.Uint16(b[:2]), binary.BigEndian.Uint16(b[2:])),
	}
	return text, base64.RawStdEncoding.EncodeToString(b[:]), [][]byte{b[:], reversed}
}

// traces finds the address in data; what names the data in the findings. The
// four bytes themselves are looked for only where raw is set: in ciphertext
// they turn up by chance.
func traces(what string, data []byte, a netip.Addr, raw bool) (found []string) {
	text, base64Form, binaryForms := needles(a)
	lower := bytes.ToLower(data)
	for _, needle := range text {
		if bytes.Contains(lower, bytes.ToLower([]byte(needle))) {
			found = append(found, fmt.Sprintf("%s holds %s", what, needle))
		}
	}
	if bytes.Contains(data, []byte(base64Form)) {
		found = append(found, fmt.Sprintf("%s holds %s", what, base64Form))
	}
	for _, needle := range binaryForms {
		if raw && bytes.Contains(data, needle) {
			found = append(found, fmt.Sprintf("%s holds the bytes %x", what, needle))
		}
	}
	return found
}

// leavesNoTrace looks through every file below the world's folder, the names of
// the files, and everything that its processes wrote.
func (w *world) leavesNoTrace(client netip.Addr) {
	w.t.Helper()
	files := 0
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(w.dir, path)
		if err != nil {
			return err
		}
		for _, f := range traces("the name of "+name, []byte(name), client, false) {
			w.t.Error(f)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		plain := strings.HasPrefix(name, "resolver/blocklog/") || strings.HasPrefix(name, "audit/")
		for _, f := range traces(name, data, client, plain) {
			w.t.Error(f)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if files < 20 {
		w.t.Errorf("only %d files were looked through", files)
	}
	for _, p := range w.processes {
		for _, f := range traces("the log of "+p.name, []byte(p.log.String()), client, true) {
			w.t.Error(f)
		}
	}
}

func TestTracesAreFoundInEveryForm(t *testing.T) {
	a := netip.MustParseAddr("127.77.1.9")
	for _, form := range []string{
		"from 127.77.1.9:4711", `"9.1.77.127.in-addr.arpa"`, "ip-127-77-1-9", "2135752969", "7f4d0109", "7F4D0109", "::ffff:7f4d:109", "f00BCQ==", "\x00\x7f\x4d\x01\x09\x00",
	} {
		if len(traces("it", []byte("before "+form+" after"), a, true)) == 0 {
			t.Errorf("no trace was found in %q", form)
		}
	}
	if found := traces("it", []byte("127.77.1.8 and 127.66.1.9, 7f4d0108"), a, true); found != nil {
		t.Errorf("found %v", found)
	}
}

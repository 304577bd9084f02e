package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"cordon/configs"
)

// stage is the folder of one demo and what is in it.
type stage struct {
	dir      string // absolute
	programs string // folder of the programs
	offline  bool   // with the sample internet
}

func (s *stage) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// founded marks a folder that a demo has founded to the end.
const founded = "demo.founded"

// found makes keys, authority and configuration where the folder is new, and
// freshens the publication's dates where it is not.
func (s *stage) found(ctx context.Context) error {
	if _, err := os.Stat(s.path(founded)); err == nil {
		fmt.Println("Going on in", s.dir)
		if err := s.configure(); err != nil {
			return err
		}
		_, err := s.authority(ctx, "refresh")
		return err
	}
	if entries, err := os.ReadDir(s.dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty, and no demo has founded it to the end; name an empty folder (--data DIR), or remove it", s.dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fmt.Println("Founding an authority with fictitious people in", s.dir)
	for _, d := range []string{"", "run", "log", "keys", "resolver", "auditor", "stoppage", "oversight", "internet"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return err
		}
	}
	for _, step := range []func(context.Context) error{s.makeKeys, s.foundAuthority, s.listNames} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := s.configure(); err != nil {
		return err
	}
	return os.WriteFile(s.path(founded), nil, 0o600)
}

// makeKeys makes the passphrase that opens every key of the demo, the identities
// of the resolver and of the official, the auditor's log key, and the certificates
// of the channel between the last two.
func (s *stage) makeKeys(ctx context.Context) error {
	var secret [16]byte
	rand.Read(secret[:]) // never fails (crypto/rand)
	if err := os.WriteFile(s.passphraseFile(), []byte(hex.EncodeToString(secret[:])+"\n"), 0o600); err != nil {
		return err
	}
	for _, name := range []string{"resolver", "oversight"} {
		recipient, err := s.run(ctx, "cordon-resolver", "identity", s.path("keys", name+".identity"), "--passphrase-file", s.passphraseFile(), "--kdf-log-n", kdfLogN)
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.path("keys", name+".recipient"), []byte(recipient), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(s.path("auditor", "auditor.yaml"), []byte(s.auditorConfig()), 0o600); err != nil {
		return err
	}
	if _, err := s.run(ctx, "cordon-auditor", "init", "--config", s.path("auditor", "auditor.yaml"), "--name", "demo.example/cordon/audit", "--kdf-log-n", kdfLogN); err != nil {
		return err
	}
	return makeCertificates(s.path("keys"))
}

// kdfLogN is less work than a real key deserves: the demo is to start at once.
const kdfLogN = "12"

func (s *stage) passphraseFile() string { return s.path("keys", "passphrase") }

// foundAuthority founds the authority by its own program, with the French
// procedure.
func (s *stage) foundAuthority(ctx context.Context) error {
	procedure, err := configs.Examples.ReadFile("procedure-france.yaml")
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("procedure-france.yaml"), procedure, 0o644); err != nil {
		return err
	}
	args := []string{
		"init", "--name", "Office de démonstration", "--origin", "demo.example/cordon/register",
		"--procedure", s.path("procedure-france.yaml"), "--publish", s.path("publish"), "--kdf-log-n", kdfLogN,
	}
	for _, officer := range officers {
		args = append(args, "--officer", officer)
	}
	for _, name := range []string{"resolver", "oversight"} {
		recipient, err := os.ReadFile(s.path("keys", name+".recipient"))
		if err != nil {
			return err
		}
		args = append(args, "--recipient", name+"="+strings.TrimSpace(string(recipient)))
	}
	for _, category := range []string{"terrorism", "minors"} {
		args = append(args, "--stop-page", category+"=127.0.0.1,::1,"+stopPage+category)
	}
	if _, err := s.authority(ctx, args...); err != nil {
		return err
	}
	vkey, err := os.ReadFile(s.path("authority", "register.vkey"))
	if err != nil {
		return err
	}
	return os.WriteFile(s.path("keys", "register.vkey"), vkey, 0o644)
}

// officers are the demo's people: the first proposes, the others approve.
var officers = []string{"alice", "bruno", "chloe"}

// listNames goes the whole way of a measure for the names that the demo lists.
func (s *stage) listNames(ctx context.Context) error {
	for _, m := range []struct{ name, category, scope, decision string }{
		{"propagande.example", "terrorism", "domain", "DEMO-2026-1"},
		{"images.example", "minors", "host", "DEMO-2026-2"},
	} {
		if _, err := s.authority(ctx, "propose", m.name, "--category", m.category, "--scope", m.scope, "--decision", m.decision, "--as", officers[0]); err != nil {
			return err
		}
		for _, officer := range officers[1:] {
			if _, err := s.authority(ctx, "approve", m.name, "--as", officer); err != nil {
				return err
			}
		}
	}
	for _, step := range [][]string{{"sign", "--key", "targets-1"}, {"sign", "--key", "targets-2"}, {"publish"}} {
		if _, err := s.authority(ctx, step...); err != nil {
			return err
		}
	}
	return nil
}

// authority runs a command of the authority.
func (s *stage) authority(ctx context.Context, args ...string) (string, error) {
	return s.run(ctx, "cordon-authority", append([]string{"--data", s.path("authority"), "--passphrase-file", s.passphraseFile()}, args...)...)
}

// run runs one of the programs to its end and returns what it printed. Its
// words about what is wrong become the error.
func (s *stage) run(ctx context.Context, program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(s.programs, program), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

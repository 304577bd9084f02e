package main

import (
	"context"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/mod/sumdb/note"

	"cordon/audit"
	"cordon/audit/tlog"
	"cordon/authority"
	"cordon/blocklog"
	"cordon/signing"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cordon-oversight": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("CORDON_PASSPHRASE", string(passphrase))
			return os.MkdirAll(filepath.Join(e.WorkDir, "tmp"), 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// authority RECIPIENT-FILE: an authority that has published one list, to
			// the recipient in that file.
			"authority": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(publishList(ts.MkAbs("authority"), ts.MkAbs("publish"), ts.ReadFile(args[0])))
			},
			// resolver: a resolver that has enforced it, and its auditor.
			"resolver": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Check(enforceList(ts.MkAbs("authority"), ts.MkAbs("blocklog")))
				ts.Check(seal(ts.MkAbs("blocklog"), ts.MkAbs("audit"), ts.MkAbs("keys")))
			},
			// forget LEAF: the auditor's keeper writes the log anew, without a leaf.
			"forget": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(forget(ts.MkAbs("audit"), ts.MkAbs("keys"), args[0]))
			},
		},
	})
}

var passphrase = []byte("correct horse battery")

// folderKeys opens an authority's keys.
type folderKeys string

func (dir folderKeys) Signer(name string) (crypto.Signer, error) {
	return signing.ReadKey(filepath.Join(string(dir), name+".key"), passphrase)
}

func (dir folderKeys) Secret(name, kind string) ([]byte, error) {
	return signing.ReadSecret(filepath.Join(string(dir), name+".key"), kind, passphrase)
}

func publishList(dir, publish, recipient string) error {
	ctx := context.Background()
	settings := authority.DefaultSettings()
	settings.Publish = publish
	category, page, err := authority.ParseStopPage("terrorism=192.0.2.1,,https://stop.example/t")
	if err != nil {
		return err
	}
	settings.StopPages = map[string]authority.StopPage{category: page}
	if _, err := authority.Found(ctx, authority.Founding{
		Dir: dir, Name: "Office of the example", Procedure: "../../configs/procedure-france.yaml", Officers: []string{"alice", "bruno", "chloe"},
		Recipients: []authority.Recipient{{Name: "official", Key: recipient[:len(recipient)-1]}},
		Root:       authority.Holders{Number: 1, Threshold: 1}, Targets: authority.Holders{Number: 1, Threshold: 1},
		Settings: settings, Passphrase: passphrase, KDFLogN: 2, Clock: time.Now,
	}); err != nil {
		return err
	}
	keys := folderKeys(filepath.Join(dir, "keys"))
	office, err := authority.OpenOffice(ctx, authority.OfficeConfig{Dir: dir, Keys: keys, Clock: time.Now})
	if err != nil {
		return err
	}
	_, err = office.Propose(ctx, authority.Proposal{Name: "propagande.example", Category: "terrorism", Decision: "D-1"}, "alice")
	for _, by := range []string{"bruno", "chloe"} {
		if err == nil {
			_, err = office.Approve(ctx, "propagande.example", by)
		}
	}
	key, keyErr := keys.Signer("targets-1")
	if err = errors.Join(err, keyErr); err == nil {
		_, err = office.Sign(ctx, key)
	}
	if err == nil {
		_, err = office.Publish(ctx)
	}
	return errors.Join(err, office.Close(ctx))
}

func enforceList(authorityDir, blocklogDir string) error {
	office, err := authority.OpenOffice(context.Background(), authority.OfficeConfig{Dir: authorityDir, Clock: time.Now, ReadOnly: true})
	if err != nil {
		return err
	}
	p := office.Register.LastPublication()
	journal, err := blocklog.Open(blocklogDir, blocklog.Options{})
	if err != nil {
		return err
	}
	err = journal.Event("list.applied", map[string]any{"list": "national", "authority": "Office of the example", "serial": p.Serial, "entries": p.Entries,
		"list_sha256": p.ListSHA256, "target_sha256": p.TargetSHA256, "from": "fetch"})
	if err == nil {
		err = journal.Append([]blocklog.Decision{{
			Matches: []blocklog.Match{{List: "national", Serial: p.Serial, Entry: p.Added[0]}}, Name: []byte("\x0apropagande\x07example\x00"), Type: 1,
			Transport: blocklog.UDP, Action: blocklog.StopPage, Count: 3,
		}})
	}
	return errors.Join(err, journal.Close(), office.Close(context.Background()))
}

// seal seals what is in the block log, and stops.
func seal(blocklogDir, logDir, keysDir string) error {
	ctx := context.Background()
	skey, vkey, err := tlog.GenerateKey("isp.example/audit")
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(filepath.Join(keysDir, "audit.skey"), []byte(skey), 0o600), os.WriteFile(filepath.Join(keysDir, "audit.vkey"), []byte(vkey+"\n"), 0o600)); err != nil {
		return err
	}
	log, verifier, err := openLog(ctx, logDir, keysDir)
	if err != nil {
		return err
	}
	sealer, err := audit.NewSealer(audit.SealerConfig{Blocklog: blocklogDir, Log: log, LogDir: logDir, Verifier: verifier, Version: "test"})
	if err == nil {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		err = sealer.Run(ended)
	}
	return errors.Join(err, log.Close(ctx))
}

func openLog(ctx context.Context, logDir, keysDir string) (*tlog.Log, note.Verifier, error) {
	skey, err := os.ReadFile(filepath.Join(keysDir, "audit.skey"))
	if err != nil {
		return nil, nil, err
	}
	signer, vkey, err := tlog.ParseKey(string(skey))
	if err != nil {
		return nil, nil, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, nil, err
	}
	log, err := tlog.Open(ctx, logDir, signer, tlog.Options{})
	return log, verifier, err
}

func forget(logDir, keysDir, which string) error {
	ctx := context.Background()
	verifier, err := tlog.ReadVerifier(filepath.Join(keysDir, "audit.vkey"))
	if err != nil {
		return err
	}
	reader := tlog.NewReader(tlog.FolderSource(logDir), verifier)
	cp, err := reader.Checkpoint(ctx)
	if err != nil {
		return err
	}
	var rest [][]byte
	for leaf, err := range reader.Leaves(ctx, cp, 0) {
		if err != nil {
			return err
		}
		if string('0'+byte(leaf.Index)) != which {
			rest = append(rest, leaf.Data)
		}
	}
	if err := os.RemoveAll(logDir); err != nil {
		return err
	}
	log, _, err := openLog(ctx, logDir, keysDir)
	if err != nil {
		return err
	}
	_, err = log.Append(ctx, rest...)
	return errors.Join(err, log.Close(ctx))
}

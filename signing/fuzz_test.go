package signing

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// FuzzMetadata wants that no bytes of a server make go-tuf panic, and that every
// refusal has a reason. What is read as metadata is also verified, since go-tuf
// dereferences there what its parser left nil.
func FuzzMetadata(f *testing.F) {
	a := found(f)
	a.list("first")
	a.rotate(func() { a.targets[0] = newKey(f) })
	r := a.resolver()
	r.takes("first")
	for _, raw := range [][]byte{r.config.Root, r.inForce.Roots[0], r.inForce.Timestamp, r.inForce.Snapshot, r.inForce.Targets} {
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
	}
	for _, raw := range []string{
		``, `{}`, `null`, `[]`, `{"signed":null,"signatures":null}`, `{"signed":{"_type":"root"},"signatures":[]}`,
		`{"signed":{"_type":"targets","targets":{"list":null}},"signatures":[]}`,
		`{"signed":{"_type":"root","keys":{"a":null},"roles":{"root":null}},"signatures":[]}`,
		`{"signed":{"_type":"timestamp","version":1,"meta":{}},"signatures":[]}`,
		`{"signed":{"_type":"snapshot","version":1e400,"meta":{"targets.json":{"version":1.5}}},"signatures":[{"keyid":"a","sig":"0"}]}`,
	} {
		f.Add([]byte(raw))
	}
	// The set as it is before each part is taken: verifying all of it anew for each
	// input would leave no time for inputs.
	var before [4]trustedmetadata.TrustedMetadata
	t0, err := newTrust(r.config.Root, noon)
	if err != nil {
		f.Fatal(err)
	}
	for i, take := range []func() error{
		func() error { return t0.root(r.inForce.Roots[0]) },
		func() error { _, err := t0.timestamp(r.inForce.Timestamp); return err },
		func() error { return t0.snapshot(r.inForce.Snapshot, false) },
		func() error { return nil },
	} {
		before[i] = *t0.set
		if err := take(); err != nil {
			f.Fatal(err)
		}
	}
	at := func(i int) *trust {
		set := before[i]
		set.Targets = map[string]*metadata.Metadata[metadata.TargetsType]{}
		return &trust{set: &set}
	}

	f.Fuzz(func(t *testing.T, raw []byte) {
		refused := func(part string, err error) {
			if err != nil && Reason(err) == "" {
				t.Fatalf("%s: refused without a reason: %v", part, err)
			}
		}
		refused("root", at(0).root(raw))
		_, err := at(1).timestamp(raw)
		refused("timestamp", err)
		refused("snapshot", at(2).snapshot(raw, false))
		refused("held snapshot", at(2).snapshot(raw, true))
		_, err = at(3).targets(raw, "list")
		refused("targets", err)
		// Those without a hash over them, as far as their shape goes.
		if root, err := parseRoot(raw); err == nil {
			signers(root, RoleRoot, root)
			if _, err := rolesOf(root); err != nil {
				t.Fatalf("a root that was parsed has no roles: %v", err)
			}
		}
		if md, err := parseSnapshot(raw); err == nil {
			signers(before[0].Root, RoleSnapshot, md)
		}
		if md, err := parseTargets(raw); err == nil {
			signers(before[0].Root, RoleTargets, md)
		}
	})
}

// FuzzCheckJSON wants that what passes can be decoded, holds no null at any depth,
// and is one object.
func FuzzCheckJSON(f *testing.F) {
	for _, raw := range []string{
		`{}`, `{"a":1}`, `{"a":null}`, `{"a":[null]}`, `{"a":{"b":[{"c":null}]}}`, `{"a":1,"a":2}`, `{"a":{"a":1}}`,
		`[]`, `1`, `{"a":1}x`, `{"a":1}{}`, `{"a":[1,{"b":2}],"c":"null"}`, `{"a"`, `{"a":}`, `{"\u0061":1,"a":2}`,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if checkJSON(raw) != nil {
			return
		}
		md, err := decodeAny(raw)
		if err != nil {
			t.Fatalf("passed, and does not decode: %v", err)
		}
		if hasNull(md) {
			t.Fatal("passed with a null")
		}
	})
}

// FuzzSecretFile wants that no file opens but the one that was written.
func FuzzSecretFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "secret")
	if err := WriteSecret(path, KindIdentity, []byte("the secret"), passphrase, 1); err != nil {
		f.Fatal(err)
	}
	good := readFile(f, path)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("-----BEGIN AGE ENCRYPTED FILE-----\n-----END AGE ENCRYPTED FILE-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		secret, err := openSecret(KindIdentity, raw, passphrase)
		if err == nil && string(secret) != "the secret" {
			t.Fatalf("opened, and holds %q", secret)
		}
	})
}

// FuzzUnseal wants that an envelope opens to what was sealed or not at all.
func FuzzUnseal(f *testing.F) {
	id, to := identity(f)
	sealed, err := Seal([]byte("a list"), []string{to})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-1])
	f.Add([]byte("age-encryption.org/v1\n-> mlkem768x25519 x\n\n--- x\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		clear, err := Unseal(raw, id, 1<<20)
		if err != nil && (clear != nil || Reason(err) == "") {
			t.Fatalf("%q, %v", clear, err)
		}
		if err == nil && string(clear) != "a list" {
			t.Fatalf("opened to %q", clear)
		}
	})
}

func decodeAny(raw []byte) (any, error) {
	var v any
	err := json.Unmarshal(raw, &v)
	return v, err
}

func hasNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return slices.ContainsFunc(v, hasNull)
	case map[string]any:
		for _, e := range v {
			if hasNull(e) {
				return true
			}
		}
	}
	return false
}

func TestJSONThatMetadataNeverHasIsRefused(t *testing.T) {
	for raw, want := range map[string]bool{
		`{"a":{"b":[1,"x",true,{"c":{}}]},"b":{"a":1}}`: true,
		"{\n \"a\" : 1 }\n":                             true,
		``:                                              false,
		`{`:                                             false,
		`null`:                                          false,
		`[{}]`:                                          false,
		`"a"`:                                           false,
		`{"a":null}`:                                    false,
		`{"a":[[null]]}`:                                false,
		`{"a":1,"b":2,"a":3}`:                           false,
		`{"a":1,"\u0061":3}`:                            false,
		`{"a":1} {}`:                                    false,
		`{"a":1}]`:                                      false,
		`{"a":1}x`:                                      false,
	} {
		if err := checkJSON([]byte(raw)); (err == nil) != want {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestARootThatWouldMisleadIsRefused(t *testing.T) {
	a := found(t)
	raw := readFile(t, filepath.Join(a.folder, "metadata", "1.root.json"))
	for name, spoil := range map[string]func(*metadata.RootType){
		"version 0":               func(r *metadata.RootType) { r.Version = 0 },
		"no consistent snapshots": func(r *metadata.RootType) { r.ConsistentSnapshot = false },
		"a role is missing":       func(r *metadata.RootType) { delete(r.Roles, RoleTimestamp) },
		"a threshold of 0":        func(r *metadata.RootType) { r.Roles[RoleTargets].Threshold = 0 },
		"a threshold of 4":        func(r *metadata.RootType) { r.Roles[RoleTargets].Threshold = 4 },
		"a key counts twice": func(r *metadata.RootType) {
			r.Roles[RoleTargets].KeyIDs[1] = r.Roles[RoleTargets].KeyIDs[0]
		},
		"a key is not there": func(r *metadata.RootType) { r.Roles[RoleTargets].KeyIDs[0] = "00" },
		"a key under another's id": func(r *metadata.RootType) {
			r.Keys[r.Roles[RoleRoot].KeyIDs[0]] = r.Keys[r.Roles[RoleRoot].KeyIDs[1]]
		},
		"half a key": func(r *metadata.RootType) {
			k := &metadata.Key{Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: "00ff"}}
			id, err := k.ID()
			if err != nil {
				t.Fatal(err)
			}
			r.Keys[id] = k
		},
		"an RSA key": func(r *metadata.RootType) {
			k := &metadata.Key{Type: "rsa", Scheme: "rsassa-pss-sha256"}
			id, err := k.ID()
			if err != nil {
				t.Fatal(err)
			}
			r.Keys[id] = k
		},
	} {
		root, err := parseRoot(raw)
		if err != nil {
			t.Fatal(err)
		}
		spoil(&root.Signed)
		root.Signatures = nil
		if _, err := parseRoot(forge(a, root, a.root[0], a.root[1])); !errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

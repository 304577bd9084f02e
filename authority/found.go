package authority

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"cordon/audit/tlog"
	"cordon/configs"
	"cordon/signing"
)

// Founding is what an authority begins with.
type Founding struct {
	Dir        string   // made if missing
	Name       string   // of the authority, in each list
	Origin     string   // of the register; "" makes one from the name
	Procedure  string   // path of the procedure file
	Officers   []string // NAME or NAME:ROLE
	Recipients []Recipient
	Root       Holders
	Targets    Holders
	Settings   Settings // where to keep and publish what; paths as they shall stand in authority.yaml
	Passphrase []byte   // of all keys that are made
	KDFLogN    int      // work to try one passphrase is 2^KDFLogN; 0: signing's default
	Clock      func() time.Time
}

// Holders are the people whose keys sign a role, and how many of them have to.
type Holders struct {
	Number, Threshold int
}

// MadeKey is a private key that was made, and who is to have it.
type MadeKey struct {
	File   string `json:"file"`
	Person string `json:"person"` // "" for a key that stays with the machine
	For    string `json:"for"`
}

// Found makes an authority: its keys, its register with the founding leaf, the
// first root of trust, signed and published, and its settings, which are written
// last: without them there is no authority, and the folder may be removed.
func Found(ctx context.Context, f Founding) ([]MadeKey, error) {
	founded, skey, vkey, err := f.prepare()
	if err != nil {
		return nil, err
	}
	officers, err := hire(founded)
	if err != nil {
		return nil, err
	}
	if err := new(Register).Check(founded); err != nil {
		return nil, err
	}
	k := &foundry{Founding: f, keys: configs.Resolve(f.Dir, f.Settings.Keys)}
	for _, dir := range []string{f.Dir, k.keys, filepath.Join(f.Dir, PeopleDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("found authority: %w", err)
		}
	}
	for i, o := range founded.Officers {
		if err := k.keep(o.Name, officers[i], o.Name, "signs statements in the register as "+o.Name); err != nil {
			return nil, err
		}
	}
	if err := k.secret(KeyRegister, signing.KindNoteSigner, []byte(skey), "signs the register's checkpoints"); err != nil {
		return nil, err
	}
	if err := k.rootOfTrust(); err != nil {
		return nil, err
	}
	own, err := k.identity()
	if err != nil {
		return nil, err
	}
	recipients := append([]Recipient{own}, f.Recipients...)
	for i, r := range recipients {
		if err := r.check(recipients[:i]); err != nil {
			return nil, err
		}
	}
	for _, file := range []struct {
		path string
		data []byte
	}{
		{configs.Resolve(f.Dir, f.Settings.Recipients), formatRecipients(recipients)},
		{configs.Resolve(f.Dir, f.Settings.Procedure), []byte(founded.Procedure)},
		{filepath.Join(f.Dir, VerifierFile), []byte(vkey + "\n")},
	} {
		if err := writeFile(file.path, file.data, 0o600); err != nil {
			return nil, err
		}
	}
	if err := k.register(ctx, founded, skey); err != nil {
		return nil, err
	}
	return k.made, writeFile(filepath.Join(f.Dir, SettingsFile), f.Settings.format(), 0o600)
}

// prepare checks what can be checked before anything is written.
func (f *Founding) prepare() (_ *Founded, skey, vkey string, _ error) {
	fail := func(err error) (*Founded, string, string, error) { return nil, "", "", err }
	if _, err := os.Stat(filepath.Join(f.Dir, SettingsFile)); err == nil {
		return fail(fmt.Errorf("%s holds an authority already: choose another folder", f.Dir))
	}
	if _, err := os.Stat(filepath.Join(f.Dir, PeopleDir)); err == nil {
		return fail(fmt.Errorf("%s holds what an interrupted \"init\" left: remove it, keys and publication included, and run \"init\" again", f.Dir))
	}
	publish := configs.Resolve(f.Dir, f.Settings.Publish)
	if left, err := os.ReadDir(filepath.Join(publish, "metadata")); err == nil && len(left) > 0 {
		return fail(fmt.Errorf("%s holds a publication already: choose another folder to publish, or remove it", publish))
	}
	text, err := os.ReadFile(f.Procedure)
	if err != nil {
		return fail(fmt.Errorf("read procedure: %w", err))
	}
	p, err := ParseProcedure(f.Procedure, text)
	if err != nil {
		return fail(err)
	}
	for category := range f.Settings.StopPages {
		if _, ok := p.Category(category); !ok {
			return fail(fmt.Errorf("stop page for category %q, which is none of the procedure's: write one of %s", category,
				strings.Join(ids(p.Categories, func(c *Category) string { return c.ID }), ", ")))
		}
	}
	if f.Origin == "" {
		f.Origin = originOf(f.Name)
	}
	if skey, vkey, err = tlog.GenerateKey(f.Origin); err != nil {
		return fail(err)
	}
	founded := &Founded{
		Type: LeafFounded, At: f.Clock().UTC().Truncate(time.Second), Authority: f.Name, Origin: f.Origin,
		Procedure: string(text), ProcedureSHA256: p.SHA256(),
	}
	for _, o := range f.Officers {
		name, role, _ := strings.Cut(o, ":")
		if role == "" {
			role = p.Roles[0].ID
		}
		founded.Officers = append(founded.Officers, Officer{Name: name, Role: role, From: Day{founded.At.Truncate(24 * time.Hour)}})
	}
	for role, h := range map[string]Holders{"root": f.Root, "targets": f.Targets} {
		if h.Threshold < 1 || h.Threshold > h.Number || h.Number > 16 {
			return fail(fmt.Errorf("%s: %d of %d holders cannot be asked for", role, h.Threshold, h.Number))
		}
	}
	return founded, skey, vkey, nil
}

// originOf makes an origin from a name: letters without accents, digits, and
// hyphens for all else.
func originOf(name string) string {
	var b strings.Builder
	for _, c := range norm.NFD.String(strings.ToLower(name)) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b.WriteRune(c)
		case !unicode.Is(unicode.Mn, c) && b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return "cordon/" + strings.Trim(b.String(), "-") + "/register"
}

// foundry makes keys and remembers whom each is for.
type foundry struct {
	Founding
	keys string
	made []MadeKey
}

func (k *foundry) file(name string) string { return filepath.Join(k.keys, name+".key") }

func (k *foundry) note(name, person, purpose string) {
	k.made = append(k.made, MadeKey{File: k.file(name), Person: person, For: purpose})
}

// key makes and stores an Ed25519 key.
func (k *foundry) key(name, person, purpose string) (crypto.Signer, error) {
	key, err := signing.GenerateKey()
	if err != nil {
		return nil, err
	}
	return key, k.keep(name, key, person, purpose)
}

func (k *foundry) keep(name string, key crypto.Signer, person, purpose string) error {
	if err := signing.WriteKey(k.file(name), key, k.Passphrase, k.KDFLogN); err != nil {
		return err
	}
	k.note(name, person, purpose)
	return nil
}

func (k *foundry) secret(name, kind string, secret []byte, purpose string) error {
	if err := signing.WriteSecret(k.file(name), kind, secret, k.Passphrase, k.KDFLogN); err != nil {
		return err
	}
	k.note(name, "", purpose)
	return nil
}

// hire makes the officers' keys, in memory.
func hire(f *Founded) ([]crypto.Signer, error) {
	var keys []crypto.Signer
	for i, o := range f.Officers {
		if slices.Contains(reservedNames, o.Name) || strings.HasPrefix(o.Name, "root-") || strings.HasPrefix(o.Name, "targets-") {
			return nil, fmt.Errorf("officer %q: another key has that name: choose one that is none of %s, root-… and targets-…", o.Name, strings.Join(reservedNames, ", "))
		}
		key, err := signing.GenerateKey()
		if err != nil {
			return nil, err
		}
		f.Officers[i].Key = PublicKey(key.Public().(ed25519.PublicKey))
		keys = append(keys, key)
	}
	return keys, nil
}

var reservedNames = []string{KeyRegister, KeySnapshot, KeyTimestamp, KeyList}

// rootOfTrust makes the keys of the TUF roles and publishes the first root,
// signed by all its holders.
func (k *foundry) rootOfTrust() error {
	repository, err := signing.OpenRepository(signing.RepositoryConfig{
		Publish: configs.Resolve(k.Dir, k.Settings.Publish), Staged: filepath.Join(k.Dir, StagedDir), Clock: k.Clock,
	})
	if err != nil {
		return err
	}
	var roles signing.Roles
	var rootKeys []crypto.Signer
	for _, r := range []struct {
		name, purpose string
		Holders
		into *signing.RoleKeys
	}{
		{"root", "names the keys that count", k.Root, &roles.Root},
		{"targets", "signs lists", k.Targets, &roles.Targets},
	} {
		r.into.Threshold = r.Threshold
		for n := 1; n <= r.Number; n++ {
			name := r.name + "-" + strconv.Itoa(n)
			key, err := k.key(name, name, r.purpose)
			if err != nil {
				return err
			}
			if err := writeHolder(filepath.Join(k.Dir, PeopleDir), name, key.Public()); err != nil {
				return err
			}
			r.into.Keys = append(r.into.Keys, key.Public())
			if r.name == "root" {
				rootKeys = append(rootKeys, key)
			}
		}
	}
	for name, into := range map[string]*signing.RoleKeys{KeySnapshot: &roles.Snapshot, KeyTimestamp: &roles.Timestamp} {
		key, err := k.key(name, "", "signs the "+name+" at each publication")
		if err != nil {
			return err
		}
		*into = signing.RoleKeys{Keys: []crypto.PublicKey{key.Public()}, Threshold: 1}
		if err := writeHolder(filepath.Join(k.Dir, PeopleDir), name, key.Public()); err != nil {
			return err
		}
	}
	if _, err := repository.StageRoot(roles, k.Settings.Expiry.Root.After(k.Clock())); err != nil {
		return err
	}
	for _, key := range rootKeys {
		if _, err := repository.Sign(signing.RoleRoot, key); err != nil {
			return err
		}
	}
	_, err = repository.Publish(signing.Online{})
	return err
}

// identity makes the authority's own key to read staged lists.
func (k *foundry) identity() (Recipient, error) {
	identity, recipient, err := signing.GenerateIdentity()
	if err != nil {
		return Recipient{}, err
	}
	err = k.secret(KeyList, signing.KindIdentity, []byte(identity), "reads staged lists, so that who signs sees what they sign")
	return Recipient{Name: "authority", Key: recipient}, err
}

// register writes the founding leaf.
func (k *foundry) register(ctx context.Context, f *Founded, skey string) error {
	leaf, err := MarshalLeaf(f)
	if err != nil {
		return err
	}
	log, err := openRegister(ctx, k.Dir, skey)
	if err != nil {
		return err
	}
	index, err := log.Append(ctx, leaf)
	if err == nil {
		err = log.Published(ctx, index)
	}
	return errors.Join(err, log.Close(ctx))
}

// writeHolder keeps the public key of somebody who signs lists or roots.
func writeHolder(dir, name string, pub crypto.PublicKey) error {
	return WritePublicKey(filepath.Join(dir, name+".pub"), pub)
}

// WritePublicKey writes a public key (PEM, PKIX).
func WritePublicKey(path string, pub crypto.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return fmt.Errorf("write public key %s: %w", path, err)
	}
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
}

// ReadPublicKey reads a public key (PEM, PKIX).
func ReadPublicKey(path string) (crypto.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("read public key %s: it holds no PEM block PUBLIC KEY", path)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read public key %s: %w", path, err)
	}
	return pub, nil
}

// readHolders gives the names in a folder of public keys, by key id.
func readHolders(dir string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pub"))
	if err != nil {
		return nil, err
	}
	holders := map[string]string{}
	for _, file := range files {
		pub, err := ReadPublicKey(file)
		if err != nil {
			return nil, err
		}
		id, err := signing.KeyID(pub)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		holders[id] = strings.TrimSuffix(filepath.Base(file), ".pub")
	}
	return holders, nil
}

// ParseStopPage reads "CATEGORY=IPV4,IPV6,URL"; either address may be empty.
func ParseStopPage(s string) (category string, page StopPage, err error) {
	category, rest, ok := strings.Cut(s, "=")
	parts := strings.SplitN(rest, ",", 3)
	if !ok || len(parts) != 3 {
		return "", page, fmt.Errorf("stop page %q: write CATEGORY=IPV4,IPV6,URL; either address may be empty", s)
	}
	for i, into := range []*[]netip.Addr{&page.IPv4, &page.IPv6} {
		if parts[i] == "" {
			continue
		}
		addr, err := netip.ParseAddr(parts[i])
		if err != nil || addr.Is4() != (i == 0) {
			return "", page, fmt.Errorf("stop page %q: %q is no IPv%d address", s, parts[i], []int{4, 6}[i])
		}
		*into = append(*into, addr)
	}
	page.Page = parts[2]
	return category, page, nil
}

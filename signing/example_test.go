package signing_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"cordon/signing"
)

// The whole way of a list: an authority founds a publication, two people sign a
// sealed list, a resolver follows, verifies and opens it.
func Example() {
	dir, err := os.MkdirTemp("", "cordon")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	clock := func() time.Time { return time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC) }

	// Keys: two people of three sign root and targets; two keys are online.
	keys := make([]crypto.Signer, 5)
	public := make([]crypto.PublicKey, 5)
	for i := range keys {
		if keys[i], err = signing.GenerateKey(); err != nil {
			log.Fatal(err)
		}
		public[i] = keys[i].Public()
	}
	people := signing.RoleKeys{Keys: public[:3], Threshold: 2}
	online := signing.Online{
		Snapshot: keys[3], SnapshotExpires: clock().AddDate(0, 0, 7),
		Timestamp: keys[4], TimestampExpires: clock().AddDate(0, 0, 1),
	}
	identity, recipient, err := signing.GenerateIdentity()
	if err != nil {
		log.Fatal(err)
	}

	// The authority.
	repository, err := signing.OpenRepository(signing.RepositoryConfig{
		Publish: filepath.Join(dir, "publish"), Staged: filepath.Join(dir, "staged"), Clock: clock,
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := repository.StageRoot(signing.Roles{
		Root: people, Targets: people,
		Snapshot:  signing.RoleKeys{Keys: public[3:4], Threshold: 1},
		Timestamp: signing.RoleKeys{Keys: public[4:5], Threshold: 1},
	}, clock().AddDate(1, 0, 0)); err != nil {
		log.Fatal(err)
	}
	envelope, err := signing.Seal([]byte("the list"), []string{recipient})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := repository.StageTarget(envelope, clock().AddDate(0, 1, 0)); err != nil {
		log.Fatal(err)
	}
	for _, role := range []string{signing.RoleRoot, signing.RoleTargets} {
		for _, person := range keys[:2] {
			status, err := repository.Sign(role, person)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(role, len(status.Needs[0].Signed), "of", status.Needs[0].Threshold)
		}
	}
	if _, err := repository.Publish(online); err != nil {
		log.Fatal(err)
	}

	// The resolver, which was given the root by hand.
	root, err := repository.Root()
	if err != nil {
		log.Fatal(err)
	}
	client, err := signing.NewClient(signing.ClientConfig{
		Root: root, Dir: filepath.Join(dir, "client"),
		Source: signing.NewFolderSource(filepath.Join(dir, "publish")), Clock: clock,
	})
	if err != nil {
		log.Fatal(err)
	}
	accepted, err := client.Update(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	list, err := signing.Unseal(accepted.Target, identity, 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(list))
	// Here it would be put in force and stored; only then:
	if err := client.Confirm(accepted); err != nil {
		log.Fatal(err)
	}
	_, err = client.Update(context.Background())
	fmt.Println(errors.Is(err, signing.ErrUnchanged))

	// Output:
	// root 1 of 2
	// root 2 of 2
	// targets 1 of 2
	// targets 2 of 2
	// the list
	// true
}

// A secret is kept in a file that opens with a passphrase alone.
func ExampleWriteSecret() {
	dir, err := os.MkdirTemp("", "cordon")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "audit.key")

	const logN = 2 // 0 outside of tests
	if err := signing.WriteSecret(path, signing.KindNoteSigner, []byte("PRIVATE+KEY+…"), []byte("passphrase"), logN); err != nil {
		log.Fatal(err)
	}
	secret, err := signing.ReadSecret(path, signing.KindNoteSigner, []byte("passphrase"))
	fmt.Println(string(secret), err)
	_, err = signing.ReadSecret(path, signing.KindNoteSigner, []byte("guess"))
	fmt.Println(errors.Is(err, signing.ErrPassphrase))
	// Output:
	// PRIVATE+KEY+… <nil>
	// true
}

package blocklist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestAnIDIsFoundTwiceHoweverFarApart fills the table of ids past each of its
// sizes.
func TestAnIDIsFoundTwiceHoweverFarApart(t *testing.T) {
	l := parse(t, frenchText(t))
	one := l.Entries[1]
	l.Entries = nil
	for i, e := range manyEntries(20_000) {
		one.ID, one.Name = fmt.Sprint(i), e.Name
		l.Entries = append(l.Entries, one)
	}
	l.Sort()
	text := encode(t, l)
	if got := parse(t, text); !reflect.DeepEqual(got.Entries, l.Entries) || cap(got.Entries) != len(got.Entries) {
		t.Fatalf("%d entries in room for %d, and they differ", len(got.Entries), cap(got.Entries))
	}
	for _, twin := range []int{1, 400, 5000, 19_999} {
		l := List{Header: l.Header, Entries: slices.Clone(l.Entries)}
		l.Entries[twin].ID = l.Entries[0].ID
		if err := l.Encode(io.Discard); err == nil || !strings.Contains(err.Error(), "is that of line 2 too") {
			t.Errorf("entry %d has the id of the first: %v", twin, err)
		}
	}
}

// TestAShutdownEndsALongList cuts each of the steps that a long list takes.
func TestAShutdownEndsALongList(t *testing.T) {
	l := parse(t, frenchText(t))
	one := l.Entries[1]
	l.Entries = nil
	for i, e := range manyEntries(20_000) {
		one.ID, one.Name = fmt.Sprint(i), e.Name
		l.Entries = append(l.Entries, one)
	}
	var packed bytes.Buffer
	if err := Encode(&packed, l); err != nil {
		t.Fatal(err)
	}
	built, err := (&Loaded{List: l}).build(t.Context(), nil, l.Issued)
	if err != nil {
		t.Fatal(err)
	}
	for name, step := range map[string]func(context.Context) error{
		"parse": func(ctx context.Context) error {
			_, _, err := decode(ctx, bytes.NewReader(packed.Bytes()), Limits{})
			return err
		},
		"guard of structure": func(ctx context.Context) error { return guardOf(t).Check(ctx, Update{Next: l}) },
		"review": func(ctx context.Context) error {
			_, err := newStanding("x").review(ctx, guardOf(t), l, built, l.Issued)
			return err
		},
		"index": func(ctx context.Context) error {
			_, err := (&Loaded{List: l}).build(ctx, nil, l.Issued)
			return err
		},
	} {
		for _, looks := range []int{1, 3} {
			ctx := &looked{Context: t.Context(), left: looks}
			if err := step(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s, ended at look %d: %v", name, looks, err)
			}
		}
	}
}

// looked is a context that ends when it has been looked at so many times.
type looked struct {
	context.Context
	left int
}

func (l *looked) Err() error {
	if l.left--; l.left <= 0 {
		return context.Canceled
	}
	return nil
}

func TestAShutdownSaysNothingOfTheList(t *testing.T) {
	a := found(t)
	a.publish(42)
	r := enforcing(a).refreshed()
	events := len(r.journal.events)
	for looks := 1; looks < 12; looks++ {
		again := r.start(a)
		again.Restore(&looked{Context: t.Context(), left: looks})
		if len(again.journal.events) > 1 || len(r.journal.events) != events {
			t.Errorf("ended at look %d: on record are %v", looks, again.journal.events)
		}
		for _, e := range again.journal.events {
			if strings.Contains(e, "refused") {
				t.Errorf("ended at look %d: %s", looks, e)
			}
		}
	}
}

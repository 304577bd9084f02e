package signing

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// A publication may be had from several mirrors, none of which need be trusted:
// what a mirror gives is verified, and no mirror takes the client behind what
// another has shown it. So one that is dead, that lies or that lags behind costs
// nothing, and is told (ClientConfig.Told); that it shows an older timestamp than
// another is how one is noticed that has been frozen.

// mirror is one of the places where a publication is to be had.
type mirror struct {
	source   Source
	failures int       // in a row
	after    time.Time // until then it is asked only where no other has an answer
}

// Bounds of the time for which a mirror that failed is left alone.
const (
	firstPause = 30 * time.Second
	mostPause  = time.Hour
)

// Update asks the mirrors for news, in their order, and returns the newest that
// verified. [ErrUnchanged] when the publication that was confirmed last is still
// the newest and still fresh. Any other error says that no mirror had either, and
// leaves in force what is in force; the next Update starts over, with nothing lost
// and nothing skipped, and gives the same publication again until it is confirmed.
// Targets that were signed again under a higher version are news, even where the
// target is the same.
func (c *Client) Update(ctx context.Context) (*Accepted, error) {
	var newest *Accepted
	var failed []error
	unchanged := false
	shown := make(map[int]int64) // the timestamps of the mirrors that had an answer
	now := c.clock()
	ask := func(number int) {
		m := &c.mirrors[number]
		c.source = m.source
		a, err := c.update(ctx)
		switch {
		case err == nil:
			newest = a
		case errors.Is(err, ErrUnchanged):
			unchanged = true
		case ctx.Err() != nil: // a shutdown says nothing of a mirror
			failed = append(failed, err)
			return
		default:
			failed = append(failed, c.named(number, err))
			m.pause(now)
			c.told(number, err)
			return
		}
		m.failures, m.after = 0, time.Time{}
		shown[number] = c.state.timestampVersion()
	}
	var left []int
	for number := range c.mirrors {
		if now.Before(c.mirrors[number].after) {
			left = append(left, number)
		} else {
			ask(number)
		}
	}
	for _, number := range left {
		if newest == nil && !unchanged {
			ask(number)
		}
	}
	for number, version := range shown {
		var behind error
		if newest := c.state.timestampVersion(); version < newest {
			behind = fmt.Errorf("%w: it shows timestamp %d, where another source shows %d", ErrRollback, version, newest)
		}
		c.told(number, behind)
	}
	switch {
	case newest != nil:
		return newest, nil
	case unchanged:
		return nil, ErrUnchanged
	}
	return nil, errors.Join(failed...)
}

// named says which mirror an error is of, where there are several.
func (c *Client) named(number int, err error) error {
	if len(c.mirrors) == 1 {
		return err
	}
	return fmt.Errorf("source %d: %w", number+1, err)
}

// pause leaves a mirror alone for a while, the longer the more often it has failed,
// and shortened by chance, so that resolvers that failed together do not ask
// together.
func (m *mirror) pause(now time.Time) {
	wait := min(mostPause, firstPause<<min(m.failures, 20))
	m.failures++
	m.after = now.Add(wait - rand.N(wait/2))
}

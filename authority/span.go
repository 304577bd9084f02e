package authority

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Span is a delay as laws write it: "24 hours", "7 days", "3 months", "1 year".
//
// Hours run from minute to minute. Days, months and years run to the end of
// their last day (UTC): a delay of days that starts on the 1st at 10:00 and
// lasts 7 days is over when the 8th is.
type Span struct {
	Hours, Days, Months int
}

// maxSpan bounds the number in front of the unit, so that no file makes a time
// that cannot be written as RFC 3339.
const maxSpan = 10_000

// ParseSpan reads one number and one unit.
func ParseSpan(s string) (Span, error) {
	number, unit, ok := strings.Cut(s, " ")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 0 || n > maxSpan || number != strconv.Itoa(n) {
		return Span{}, fmt.Errorf("%q is not a delay: write a number and a unit, as in \"24 hours\", \"7 days\", \"3 months\" or \"1 year\"", s)
	}
	switch unit {
	case "hour", "hours":
		return Span{Hours: n}, nil
	case "day", "days":
		return Span{Days: n}, nil
	case "month", "months":
		return Span{Months: n}, nil
	case "year", "years":
		if n <= maxSpan/12 {
			return Span{Months: 12 * n}, nil
		}
	}
	return Span{}, fmt.Errorf("%q is not a delay: the unit is hours, days, months or years", s)
}

// UnmarshalText is ParseSpan, for the procedure file.
func (s *Span) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSpan(string(text))
	return err
}

func (s Span) String() string {
	n, unit := s.Hours, "hour"
	switch {
	case s.Months > 0 && s.Months%12 == 0:
		n, unit = s.Months/12, "year"
	case s.Months > 0:
		n, unit = s.Months, "month"
	case s.Days > 0:
		n, unit = s.Days, "day"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

// After gives the instant at which a delay that starts at t is over.
func (s Span) After(t time.Time) time.Time {
	t = t.UTC()
	if s.Days == 0 && s.Months == 0 {
		return t.Add(time.Duration(s.Hours) * time.Hour)
	}
	year, month, day := t.Date()
	if s.Months > 0 {
		// A month without that day ends the delay on its last day: one month
		// from 31 January is over with February.
		first := time.Date(year, month+time.Month(s.Months), 1, 0, 0, 0, 0, time.UTC)
		last := first.AddDate(0, 1, -1).Day()
		year, month, day = first.Year(), first.Month(), min(day, last)
	}
	return time.Date(year, month, day+s.Days+1, 0, 0, 0, 0, time.UTC)
}

// lastDay is the day that a delay over at due still holds on.
func lastDay(due time.Time) time.Time {
	y, m, d := due.Add(-time.Second).UTC().Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

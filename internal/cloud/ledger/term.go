package ledger

import "time"

// Charge types.
const (
	Hourly  = "Dynamic"
	Monthly = "Month"
	Yearly  = "Year"
)

// rank orders charge types by their length; 0: none.
func rank(chargeType string) int {
	return map[string]int{Hourly: 1, Monthly: 2, Yearly: 3}[chargeType]
}

// longest is how many periods one purchase or renewal may have.
func longest(chargeType string, k Kind) int {
	switch chargeType {
	case Monthly:
		return 11
	case Yearly:
		return 5
	}
	return max(1, k.Longest)
}

// addMonths is the same day and time so many months later; a day that the month lacks is its last one. Counting from
// one anchor keeps the 31st the 31st wherever there is one.
func addMonths(anchor time.Time, n int) time.Time {
	y, m, d := anchor.Date()
	// Days are counted in UTC: elsewhere clocks may skip the midnight that a month begins with.
	first := time.Date(y, m+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	y, m, _ = first.Date()
	h, mi, s := anchor.Clock()
	return time.Date(y, m, min(d, last), h, mi, s, anchor.Nanosecond(), anchor.Location())
}

// extend adds periods to the paid time of a charge and returns what they are: from (unix microseconds) up to c.EndsAt.
// Monthly with 0 goes to the end of the calendar month.
func (s *Service) extend(c *charge, chargeType string, quantity int) (from int64) {
	from = c.EndsAt
	zone := s.zone(c.Region)
	switch {
	case chargeType == Hourly:
		c.EndsAt += int64(quantity) * time.Hour.Microseconds()
		c.Anchor, c.Months = 0, 0
	case quantity == 0:
		y, m, _ := time.UnixMicro(from).In(zone).Date()
		c.EndsAt = time.Date(y, m+1, 1, 0, 0, 0, 0, zone).UnixMicro()
		c.Anchor, c.Months = c.EndsAt, 0
	default:
		if c.Anchor == 0 {
			c.Anchor, c.Months = from, 0
		}
		if chargeType == Yearly {
			quantity *= 12
		}
		c.Months += quantity
		c.EndsAt = addMonths(time.UnixMicro(c.Anchor).In(zone), c.Months).UnixMicro()
	}
	c.ChargeType = chargeType
	return from
}

// whole is the length of the term that a price of so many periods is for, in microseconds: that of the order, but of
// one to the end of the calendar month a whole month.
func (s *Service) whole(region string, from, to int64, quantity int) int64 {
	if quantity == 0 {
		return addMonths(time.UnixMicro(from).In(s.zone(region)), 1).UnixMicro() - from
	}
	return max(1, to-from)
}

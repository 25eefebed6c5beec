package identity

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// serviceClosed closes a service of the catalogue in a region: to one tenant, or to all (0).
type serviceClosed struct {
	bun.BaseModel `bun:"table:service_closed"`

	Region    string `bun:"region,pk"`
	Product   string `bun:"product,pk"`
	Company   int64  `bun:"company,pk"`
	CreatedAt int64  `bun:"created_at"`
}

// closedServices is the whole table, which has few rows and is in the way of every request.
type closedServices struct {
	all  map[serviceClosed]bool
	read time.Time
}

// closed reads which services are closed; the answer is cached for a few seconds.
func (s *Service) closed(ctx context.Context) (map[serviceClosed]bool, error) {
	since := s.changes.Load()
	if k := s.services.Load(); k != nil && time.Since(k.read) < believed {
		return k.all, nil
	}
	var rows []serviceClosed
	if err := s.DB.Reader().NewSelect().Model(&rows).Scan(ctx); err != nil {
		return nil, err
	}
	all := make(map[serviceClosed]bool, len(rows))
	for _, r := range rows {
		r.CreatedAt = 0
		all[r] = true
	}
	if s.changes.Load() == since {
		s.services.Store(&closedServices{all, time.Now()})
	}
	return all, nil
}

// checkService refuses actions of a service that is closed to the caller's tenant (114).
func (s *Service) checkService(ctx context.Context, c *action.Call, spec action.Spec) error {
	p := productOf(spec.Module)
	if p == nil || p.Category == "" || c.Region == "" {
		return nil
	}
	closed, err := s.closed(ctx)
	if err != nil || len(closed) == 0 {
		return err
	}
	if closed[serviceClosed{Region: c.Region, Product: p.Type}] || closed[serviceClosed{Region: c.Region, Product: p.Type, Company: c.Caller.Company}] {
		return retcode.ActionForbidden.Errorf("the service %s is not granted to your tenant in %s", p.Type, c.Region)
	}
	return nil
}

// service finds a service of the catalogue: 655 when there is none.
func service(name string) (*product, error) {
	p := productByType(name)
	if p == nil || p.Category == "" {
		return nil, retcode.ProductTypeNotFound.Errorf("ProductType %s", name)
	}
	return p, nil
}

package network

import (
	"context"

	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
)

// owner of a port, as its row says it.
func (p *Port) owner() Owner { return Owner{p.OwnerKind, p.OwnerID} }

// holder is what an EIP is bound to.
func (e *EIP) holder() Owner { return Owner{e.BindKind, e.BindID} }

// owners reads names and project groups of what has ports, addresses or security groups, by id. Each kind is asked once;
// what is gone is left out.
func (s *Service) owners(ctx context.Context, all []Owner) (map[string]TargetPort, error) {
	ids := make(map[string][]string)
	for _, o := range all {
		ids[o.Kind] = append(ids[o.Kind], o.ID)
	}
	out := make(map[string]TargetPort)
	free, err := names(ctx, s.DB.Reader(), "nic", ids[ofNIC])
	if err != nil {
		return nil, err
	}
	for id, name := range free {
		out[id] = TargetPort{PortID: id, Name: name}
	}
	for kind, target := range s.targets {
		if len(ids[kind]) == 0 {
			continue
		}
		found, err := target.Describe(ctx, uniq(ids[kind]))
		if err != nil {
			return nil, err
		}
		for id, t := range found {
			out[id] = t
		}
	}
	return out, nil
}

// labels are what lists show of a resource beside its row.
type labels struct {
	email, project string // of its main account, of its project group
	tags           []tag.Info
}

// head is by what a row's labels are found.
type head struct {
	id, project string
	company     int64
}

func (v *VPC) head() head        { return head{v.ID, v.Project, v.Company} }
func (sn *Subnet) head() head    { return head{sn.ID, sn.Project, sn.Company} }
func (g *Group) head() head      { return head{g.ID, g.Project, g.Company} }
func (e *EIP) head() head        { return head{e.ID, e.Project, e.Company} }
func (n *NIC) head() head        { return head{n.ID, n.Project, n.Company} }
func (v *vipRow) head() head     { return head{v.ID, v.Project, v.Company} }
func (g *entryGroup) head() head { return head{g.ID, g.Project, g.Company} }

// labelled reads the labels of rows, by id, in a fixed number of queries.
func labelled[T any, P interface {
	*T
	head() head
}](ctx context.Context, s *Service, rows []T) (map[string]labels, error) {
	out := make(map[string]labels, len(rows))
	if len(rows) == 0 {
		return out, nil
	}
	heads := make([]head, len(rows))
	for i := range rows {
		heads[i] = P(&rows[i]).head()
	}
	mails, err := s.Identity.Emails(ctx, uniq(column(heads, func(h *head) int64 { return h.company })))
	if err != nil {
		return nil, err
	}
	projects, err := s.Identity.ProjectNames(ctx, uniq(column(heads, func(h *head) string { return h.project })))
	if err != nil {
		return nil, err
	}
	tags, err := tag.Of(ctx, s.DB.Reader(), column(heads, func(h *head) string { return h.id })...)
	if err != nil {
		return nil, err
	}
	for _, h := range heads {
		out[h.id] = labels{email: mails[h.company], project: projects[h.project], tags: tags[h.id]}
	}
	return out, nil
}

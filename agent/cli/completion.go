package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// completionTime is how long a shell waits for what it offers; longer in tests.
var completionTime = time.Second

// completeUser offers the enrolled users.
func (a *app) completeUser(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	var names []string
	err := a.call(ctx, func(ctx context.Context, c *agent) error {
		answer, err := c.ListUsers(ctx, &adminv1.ListUsersRequest{})
		for _, u := range answer.GetUsers() {
			if validUser(u.GetName()) == nil {
				names = append(names, u.GetName())
			}
		}
		return err
	})
	if err != nil {
		return nil, none
	}
	return names, none
}

// completePhone offers users, and then the phones that were enrolled here.
func (a *app) completePhone(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) != 1 {
		return a.completeUser(cmd, args, typed)
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	u, err := a.userCall(ctx, args[0], func(ctx context.Context, c *agent, r *adminv1.UserRequest) (*adminv1.User, error) {
		return c.ShowUser(ctx, r)
	})
	var ids []string
	for _, p := range u.Phones {
		if err == nil && p.Source == phoneHere {
			ids = append(ids, p.ID+"\t"+clean(p.Name))
		}
	}
	return ids, none
}

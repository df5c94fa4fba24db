// By the generated client: score a payment, then a batch of it and of one that conflicts with it.
import { Configuration, PostedTransaction, TransactionsApi } from './client';

declare const process: { argv: string[] };
const [url, key] = process.argv.slice(2);

function payment(amount: string): PostedTransaction {
  return {
    transactionId: 't-typescript',
    accountId: 'a-1',
    occurredAt: new Date('2026-01-31T12:00:00Z'),
    amount,
    currency: 'EUR',
    attributes: { device_age_days: 3 },
  };
}

async function main(): Promise<void> {
  const api = new TransactionsApi(new Configuration({ basePath: url, accessToken: key }));
  const score = await api.scoreTransaction({ postedTransaction: payment('12.50') });
  const batch = await api.scoreBatch({
    postedBatch: { transactions: [payment('12.5'), payment('13')] },
  });
  const [same, other] = batch.results;
  console.log(score.probability, same.probability, other.error?.code);
}

main();
